"""What happens to promises and tasks, one story per line: sections 3 to 4.3; section 9, items 1, 4, 7, 8, 13, 14.

Before the bar are the steps (see :mod:`unit.stories`), after it the outcome: the last answer's status; ``sent``, all
executes; ``task`` and ``promise`` as stored, with times in ms since the start. A lease lasts 10 s, a retry comes after
30 s.
"""

import pytest
from unit.driver import START, Driver
from unit.stories import happen

from resonate_server.protocol.records import PromiseState, TaskState

STORIES = {
    # Tasks of promises with a target.
    "its task waits for a worker, who is told once": (
        "create t; create t | task t pending version=0 timer=30000; sent t/0"
    ),
    "past its deadline it is born fulfilled": "create t by+0 | task t fulfilled version=0 timer=None; silent",
    "a caller that creates a task to run it holds it at once, and nobody is told": (
        "new t | 200; task t acquired version=1 pid=pid-1 ttl=10000 timer=10000; sent"
    ),
    # Callbacks.
    "a repeated callback counts once": (
        "create p -; create t; register_callback p t; register_callback p t; settle p | task t pending resumes=1"
    ),
    **{
        f"a callback of what is settled leaves no trace: {state}": (
            f"create p -; settle p; {state} t; forget; register_callback p t"
            f" | 200; task t {state} resumes=0; awaited p; silent"
        )
        for state in ("pending", "acquired", "halted", "fulfilled")
    },
    "nor does one of an awaiter that is": (
        "create p -; fulfilled t; register_callback p t | 200; task t fulfilled resumes=0; awaited p; silent"
    ),
    # Requests of a task past its deadline.
    **{
        f"past its deadline: {ask}": (
            f"create t by+10; create dep -; {before}; later 10; {ask} | 409; task t fulfilled"
        )
        for before, ask in (
            ("pending t", "acquire t"),
            ("acquire t", "release t 1"),
            ("acquire t", "fulfill t 1"),
            ("acquire t", "suspend t 1 dep"),
            ("acquire t", "fenced t 1 new"),
            ("acquire t", "halt t"),
            ("halt t", "continue_ t"),
        )
    },
    # Deadlines.
    "a promise is pending until its deadline": "create p - by+10; wait 9 | promise p pending",
    "and settled from then on": "create p - by+10; wait 10 | promise p timedout +10",
    "one that is settled does not expire": "create p - by+10; settle p; wait 20 | promise p resolved +0",
    "asking for a task touches its promise": "create t by+10; later 10; get_task t | 200; promise t timedout +10",
    "a refused request keeps the deadlines that it ran into": (
        "create t by+10; acquire t; later 10; fulfill t 1 | promise t timedout +10"
    ),
    "a callback touches both": (
        "create p - by+10; create w by+10; later 10; register_callback p w"
        " | 200; promise p timedout +10; promise w timedout +10"
    ),
    "a listener touches what it listens to": (
        "create p - by+10; later 10; listen p | 200; promise p timedout +10; heard p"
    ),
    # Retries.
    "a pending task is sent again each 30 s, without end or backoff": (
        "pending t; wait 30000; wait 30000; wait 30000; wait 30000 | sent t/0 t/0 t/0 t/0"
    ),
    "a retry is not sent early": "pending t; wait 29999 | sent",
    "a retry names the current version": "acquired t; release t 1; forget; wait 30000 | sent t/1",
    "its timer is armed again from now": "pending t; wait 30500 | task t pending timer=60500",
    **{
        f"no timer: {state}": f"{how} | task t {state} timer=None"
        for state, how in {"suspended": "suspended t dep", "halted": "halted t", "fulfilled": "fulfilled t"}.items()
    },
    # Leases.
    "a lease that ends puts the task back": (
        "acquired t; wait 10000 | task t pending version=1 pid=None ttl=None timer=40000; sent t/1; lost t"
    ),
    "a lease does not end early": "acquired t; wait 9999 | task t acquired; sent",
    "a lease that ends keeps resumes": (
        "acquired t; create dep -; register_callback dep t; settle dep; wait 10000 | task t pending resumes=1"
    ),
    "a lease whose holder is gone ends at once": (
        "acquired t; gone | task t pending version=1 pid=None ttl=None timer=30000; sent t/1; lost t"
    ),
    "a lost holder is no release and starts no pause": (
        "acquired t; gone; acquire t 1; gone; acquire t 2; gone | sent t/1 t/2 t/3"
    ),
    "past its deadline a task ends instead": (
        "create t by+10; acquire t; forget; later 10; gone | task t fulfilled; sent"
    ),
    "a heartbeat of nothing is one": "beat | 200",
    "past the task's deadline a heartbeat is ignored, and touches nothing": (
        "create t by+10; acquire t; later 10; beat t 1 | 200; task t acquired timer=10000; promise t pending"
    ),
    # Claims.
    "a claim clears resumes": "suspended t dep; settle dep; acquire t 1 | task t acquired version=2 resumes=0",
    "they count anew after it": "suspended t a b; settle a; acquire t 1; settle b | task t acquired resumes=1",
    "a claim withdraws the execute that others may still hold": "create t; acquire t 0 | withdrawn t",
    # Releases.
    "a release puts the task back": (
        "acquired t; release t 1 | 200; task t pending version=1 pid=None ttl=None timer=30000; sent t/1"
    ),
    "a release keeps resumes: only a claim or a suspension clears them": (
        "acquired t; create dep -; register_callback dep t; settle dep; release t 1 | task t pending resumes=1"
    ),
    "in the pause after a second release no worker that connects is given the task": (
        "create t; acquire t 0; release t 1; acquire t 1; release t 2 | owed"
    ),
    "a worker that connects does not end that pause": (
        "create t; acquire t 0; release t 1; acquire t 1; release t 2; forget; recall workers | sent"
    ),
    "nor the one before a delayed start": "create t delay+60000; forget; recall workers | sent",
    "a claim in that pause is not refused": (
        "create t; acquire t 0; release t 1; acquire t 1; release t 2; acquire t 2 | 200"
    ),
    "an operator's continue does not wait for its end": (
        "create t; acquire t 0; release t 1; acquire t 1; release t 2; halt t; forget; continue_ t | sent t/2"
    ),
    "a resume without a pause is sent at once": (
        "create t; acquire t 0; release t 1; create dep -; acquire t 1; suspend t 2 dep; forget; settle dep | sent t/2"
    ),
    "a claim in the pause of one that nobody claimed is not refused": "create t; set_aside t 0; acquire t | 200",
    "past its deadline, what nobody claimed is over": "create t by+10; later 10; set_aside t 0 | task t fulfilled",
    # Suspensions.
    "on pending promises the task is parked": (
        "acquired t; create a -; create b -; suspend t 1 a b"
        " | 200; task t suspended version=1 resumes=0 pid=None ttl=None timer=None; awaited a t; awaited b t"
    ),
    "if one is settled it goes on, and waits for none": (
        "acquired t; create a -; create b -; settle b; suspend t 1 a b | 300; awaited a; task t acquired"
    ),
    "so it does if one is past its deadline": "acquired t; create a - by+10; later 10; suspend t 1 a | 300",
    "a suspension that goes on clears resumes": (
        "acquired t; create a -; register_callback a t; settle a; suspend t 1 a | 300; task t acquired resumes=0"
    ),
    "and one that does not, too": (
        "acquired t; create a -; create b -; register_callback a t; settle a; suspend t 1 b"
        " | 200; task t suspended resumes=0"
    ),
    "callbacks of an earlier suspension may wake the task again": (
        "suspended t a b; settle a; acquire t 1; create c -; suspend t 2 c; forget; settle b | sent t/2"
    ),
    "suspended again on the same promise, it is woken by that": (
        "suspended t a b; settle a; acquire t 1; suspend t 2 b; forget; settle b | sent t/2"
    ),
    # Halts.
    **{
        f"a halt of what is {state} ends it": f"{how}; halt t | task t halted timer=None ttl=None pid=None"
        for state, how in {"pending": "pending t", "acquired": "acquired t", "suspended": "suspended t dep"}.items()
    },
    "nothing is sent while halted": "suspended t dep; halt t; settle dep; wait 300000 | sent",
    "a halt withdraws the execute": "create t; halt t | withdrawn t",
    "continue sends the task at its version": (
        "acquired t; halt t; continue_ t | 200; task t pending version=1 timer=30000; sent t/1"
    ),
    # Settlements and awaiters.
    "an awaiter is woken at the version of its last claim": (
        "suspended w p; settle p | task w pending version=1 timer=30000; sent w/1"
    ),
    "it is not woken twice by the same promise": "suspended w p; settle p; forget; settle p; get p | silent",
    "it counts each of the awaited once": (
        "acquired w; create p - by+10; create q - by+10; register_callback p w; register_callback q w; wait 10; get p"
        " | task w acquired resumes=2"
    ),
    "several that expire at once wake it once": (
        "create a - by+5; create b - by+5; suspended w a b; wait 5 | sent w/1"
    ),
    "one that expires in the same sweep is not woken": (
        "create w by+10; create p - by+5; acquire w; suspend w 1 p; forget; wait 10 | task w fulfilled resumes=0; sent"
    ),
    "one past its own deadline is skipped (section 3.5 [SHOULD])": (
        "create w by+10; create p -; acquire w; suspend w 1 p; forget; later 10; settle p | silent; task w suspended"
    ),
    "also if it is at work": (
        "create w by+10; create p -; acquire w; register_callback p w; forget; later 10; settle p"
        " | silent; task w acquired resumes=0"
    ),
    # ``resonate:delay`` is obeyed: section 4.3 [SHOULD].
    "before the instant there is no execute": "create t delay+5000; wait 4999 | task t pending timer=5000; sent; owed",
    "at the instant it is sent": "create t delay+5000; wait 5000 | task t pending timer=35000; sent t/0",
    "an instant in the past is at once": "create t delay-1 | sent t/0",
    "and so is this very instant": "create t delay+0 | sent t/0",
    "a claim before the instant is not refused": "create t delay+5000; acquire t 0 | 200",
    "nor is task.create": "create t delay+5000; new t | 200; task t acquired",
    "a fenced creation obeys it, too": "acquired c; fenced c 1 t delay+5000 | 200; sent",
    "halted and continued before the instant, it still waits": (
        "create t delay+5000; halt t; continue_ t; wait 4999 | task t pending timer=5000; sent"
    ),
    # Tasks of timers are never dispatched; only their promises are awaited.
    "nobody is told of a timer": "create t timer by+600000; wait 300000 | silent; task t pending; owed",
    "its claim is not refused and lapses in silence": (
        "create t timer by+600000; acquire t 0; forget; wait 10000 | sent; task t pending"
    ),
    "at its deadline promise and task end": (
        "create t timer by+600000; wait 600000 | promise t resolved +600000; task t fulfilled"
    ),
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_story(server: Driver, story: str) -> None:
    happens, _, seen = story.partition(" | ")
    status = happen(server, happens)
    for sight in seen.split("; "):
        look(server, status, *sight.split())


def look(server: Driver, status: int, what: str, *words: str) -> None:
    match what, words:
        case "sent", _:
            assert [f"{id}/{version}" for id, version in server.take_executes()] == [*words]
        case "silent", []:
            assert server.sent == []
        case "withdrawn", _:
            assert server.take_withdrawn() == [*words]
        case "lost", [id]:
            assert server.leases_lost() == [id]
        case "owed", _:
            assert [task.id for task in server.store.queued_tasks("workers", 10)] == [*words]
        case "awaited", [id, *awaiters]:
            assert server.callbacks(id) == set(awaiters)
        case "heard", [id]:
            assert server.listeners(id) == []
        case "promise", [id, state, *at]:
            promise = server.promise(id)
            assert promise.state is PromiseState[state.upper()]
            assert not at or promise.settled_at == START + int(at[0])
        case "task", [id, state, *members]:
            task = server.task(id)
            assert task.state is TaskState[state.upper()]
            own = {"timer": None if task.timer_at is None else task.timer_at - START, "pid": task.pid, "ttl": task.ttl}
            own |= {"version": task.version, "resumes": task.resumes}
            assert {name: str(own[name]) for name, _, _ in (each.partition("=") for each in members)} == dict(
                each.split("=") for each in members
            )
        case _:
            assert (status, words) == (int(what), ())
