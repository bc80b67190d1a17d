"""Checks of every promise, over any factory of enqueuers; broken twins that fail them; a Hypothesis state machine.

    subject      what is put to the test: `Factory`, `Gate`, `within`, `BrokenPromise`; the package as `REFERENCE` and as `PROCESSES`
    remote       sequences and generators that live in the test's process, and are read from worker processes
    checks/      one or more checks for each guarantee, in one registry
    twins        enqueuers that each break one promise on purpose, in one registry: the proof that the checks can fail
    page         the page of the contract, made from the data and these two
    events       the event record: what the critical sections of a run did
    schedule/    a scheduler that owns every choice, and runs the real code in every interleaving
    model        what a state machine compares with: runs as lists of what must come
    kit/         a verdict for each check, whatever the subject does: `python -m enqueuer check`
    machine      the state machine `machine_for(factory)`; needs hypothesis

Nothing outside of this folder needs it: it may be deleted in a copy.
"""
