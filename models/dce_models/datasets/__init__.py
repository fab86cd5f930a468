"""Public data sets as folders that `train` and `evaluate` read. Neither the files nor what is made of them belongs
into a project's repository: see each set's terms.

sea     UNIX commands of 50 people, others' commands spliced in                   [task owner]
globo   clicks on a news portal                                                   [task next]
"""
