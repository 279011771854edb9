"""Taking jobs and running them: what one process does with its own hands, be it a child or a program with a launcher.

A job's way: `fetcher` takes it → `manager` hands it out → `runners` give it a slot → `processor` runs it → `outcome`
decides what becomes of it → `fetcher` settles it. `capsules` holds them together.
"""
