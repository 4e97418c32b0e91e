"""The task state machine as one table (protocol section 3.2).

Every rule that moves a task looks its move up here and nowhere else. A missing cell means that the event cannot happen
in that state. Events that carry a ``version`` check it in addition.
"""

from enum import Enum, auto

from resonate_server.protocol.records import TaskState


class TaskEvent(Enum):
    """An event that affects a task."""

    CREATE = auto()  # task.create on an existing promise
    ACQUIRE = auto()
    RELEASE = auto()
    SUSPEND = auto()
    FULFILL = auto()
    FENCE = auto()
    HEARTBEAT = auto()
    HALT = auto()
    CONTINUE = auto()
    AWAITED_SETTLED = auto()  # a promise it awaits, or registered a callback on, settled
    OWN_SETTLED = auto()  # its own promise was settled or expired
    RETRY_DUE = auto()
    PASSED_OVER = auto()  # a worker was offered the task and has not claimed it
    LEASE_DUE = auto()
    HOLDER_GONE = auto()  # the worker that holds it is known to be gone (section 9, item 4)


class Move(Enum):
    """The effect of an event on a task."""

    REFUSE = auto()  # 409, nothing changes
    KEEP = auto()  # nothing changes
    CLAIM = auto()  # acquired, version + 1
    REQUEUE = auto()  # pending, execute
    PARK = auto()  # suspended
    EXTEND = auto()  # lease extended
    HALT = auto()  # halted
    COUNT = auto()  # resumes + 1
    RESUME = auto()  # pending, execute, resumes = 1
    RESEND = auto()  # still pending, execute again
    SET_ASIDE = auto()  # still pending, execute after a pause
    FINISH = auto()  # fulfilled


# fmt: off
MOVES: dict[TaskEvent, dict[TaskState, Move]] = {
    event: {state: move for state, move in zip(TaskState, row, strict=True) if move is not None}
    for event, row in {
        # event:                 pending      acquired      suspended    halted        fulfilled
        TaskEvent.CREATE:          (Move.CLAIM,  Move.REFUSE,  Move.REFUSE, Move.REFUSE,  Move.KEEP),
        TaskEvent.ACQUIRE:         (Move.CLAIM,  Move.REFUSE,  Move.REFUSE, Move.REFUSE,  Move.REFUSE),
        TaskEvent.RELEASE:         (Move.REFUSE, Move.REQUEUE, Move.REFUSE, Move.REFUSE,  Move.REFUSE),
        TaskEvent.SUSPEND:         (Move.REFUSE, Move.PARK,    Move.REFUSE, Move.REFUSE,  Move.REFUSE),
        TaskEvent.FULFILL:         (Move.REFUSE, Move.FINISH,  Move.REFUSE, Move.REFUSE,  Move.REFUSE),
        TaskEvent.FENCE:           (Move.REFUSE, Move.KEEP,    Move.REFUSE, Move.REFUSE,  Move.REFUSE),
        TaskEvent.HEARTBEAT:       (Move.KEEP,   Move.EXTEND,  Move.KEEP,   Move.KEEP,    Move.KEEP),
        TaskEvent.HALT:            (Move.HALT,   Move.HALT,    Move.HALT,   Move.KEEP,    Move.REFUSE),
        TaskEvent.CONTINUE:        (Move.REFUSE, Move.REFUSE,  Move.REFUSE, Move.REQUEUE, Move.REFUSE),
        TaskEvent.AWAITED_SETTLED: (Move.COUNT,  Move.COUNT,   Move.RESUME, Move.COUNT,   Move.KEEP),
        TaskEvent.OWN_SETTLED:     (Move.FINISH, Move.FINISH,  Move.FINISH, Move.FINISH,  Move.KEEP),
        TaskEvent.RETRY_DUE:       (Move.RESEND, None,         None,        None,         None),
        TaskEvent.PASSED_OVER:     (Move.SET_ASIDE, None,      None,        None,         None),
        TaskEvent.LEASE_DUE:       (None,        Move.REQUEUE, None,        None,         None),
        TaskEvent.HOLDER_GONE:     (None,        Move.REQUEUE, None,        None,         None),
    }.items()
}
# fmt: on
