"""The only table of differences: every way in which the official in-process server of resonate-sdk 0.8.1 may differ
from ours.

Any other difference is a failure, and so is an entry that a long run never meets. Sections are those of
``docs/protocol.md``.
"""

from enum import Enum


class Differs(Enum):
    """Each one: the section; what the official server does, while ours does what the section says; and how the two are
    compared nevertheless."""

    # --- how answers are written ---
    CREATED_IS_201 = "3.1, 3.2, 3.3: answers 201 where something new was made; 201 counts as 200"
    NULLS = "2.1: sends null for an empty param or value; null counts as {}"
    ERROR_DATA = "1.3: sends an object, or nothing, with an error; only the status is compared"
    TASK_RECORD = "2.1: task records have promiseId, and no resumes; resumes are read from its state"
    FENCE_ENVELOPE = "3.2 task.fence: the inner answer has no kind, no head and no status; only its promise is compared"
    # --- versions ---
    VERSION_GROWS = (
        "2.1, 3.2: the version grows when a task becomes pending again (as in v0.9.0 to v0.9.3), not when it is "
        "claimed; each is sent the versions it shows; ours is one ahead exactly while a task is acquired or "
        "suspended"
    )
    VERSION_UNCHECKED = (
        "3.2: acquire, release, fulfill and suspend do not look at the version; "
        "those with a wrong one are not sent to it; ours must answer 409"
    )
    # --- who may be awaited ---
    INTERNAL_AWAITED = (
        "2.2: lets everybody wait for internal promises; such requests are not sent to it; ours must answer 422"
    )
    # --- task.suspend ---
    SUSPEND_TWICE = (
        "3.2 task.suspend: accepts that an awaited promise is named twice; not sent to it; ours must answer 400"
    )
    SUSPEND_ON_MISSING = (
        "3.2 task.suspend: overlooks awaited promises that do not exist; not sent to it; ours must answer 422"
    )
    CALLBACK_WITH_300 = (
        "3.2 task.suspend: stores callbacks on the pending ones of the awaited also where it answers 300; "
        "it is sent only the settled ones"
    )
    RESUMES_REDIRECT = (
        "3.2 task.suspend: answers 300 because an earlier awaited promise has settled since the claim, though none "
        "of these has; it is sent the request twice; the second answer is compared"
    )
    # --- task.create, preload ---
    CREATE_WITHOUT_TARGET = "3.2 task.create: 409 for a promise that has no task; 409 counts as 422"
    PRELOAD_OF_FULFILLED = (
        "3.2 task.create: preloads also for a task that is fulfilled; not compared there; ours must be empty"
    )
    PRELOAD_OF_FENCE = "3.4: preloads with each answer of task.fence; not compared there; ours must be empty"
    PRELOAD_OF_CHILDREN = (
        "9 item 9: preloads only what shares the branch; what ours has besides must be the task's children"
    )
    PRELOAD_ORDER = "3.4: preloads in the order of creation; compared as sets; ours must ascend"
    PRELOAD_IS_LATE = "3.4: preloads as pending what is past its deadline; that counts as settled at its deadline"
    # --- time ---
    SWEEP_TARGETS_ONLY = (
        "4.1: its loop settles only promises with a target; "
        "after a tick it is asked for other external ones, which settles them"
    )
    EXPIRED_AWAITER = (
        "3.5 step 2, 9 item 13: wakes tasks, and extends leases, although their own deadline has passed unnoticed; "
        "a task is not compared between its deadline and the moment when that is noticed"
    )
    TIMER_DISPATCH = (
        "9 item 7: dispatches the tasks of timers; their execute messages and retry timers are not compared"
    )
    DELAY_ONCE = (
        "4.3: obeys resonate:delay only at creation, not when a task comes back before its time; "
        "the premature execute is dropped and its timer set to the delay"
    )
    RELEASE_PAUSE = (
        "9 item 1: does not pause after repeated releases; the pause is switched off in ours for this comparison"
    )
    # --- messages ---
    MESSAGE_HEAD = "5.1: messages have no head; kind, data and address are compared"
