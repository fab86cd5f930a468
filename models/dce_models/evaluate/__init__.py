"""Judges a bundle by the records that the pipeline makes with it. In the data's order:

records    what `dce replay` made, in columns
join       which record a label is judged on: no look into the future
history    the clicks in columns, for the floors and the readers of embeddings
metrics    figures and their intervals
situation  what every task's judging works with
result     what it gives
owner      the task owner, with how early; floors: bayes, and beside (a session's features beside the earlier ones)
outcome    the tasks label and next_session: head, probe, floors on handmade features
reading    the task next: a reader of embeddings that keeps what is about the names
worth      the task owner with every stranger's session kept out: what a gate could be worth, in Python      [torch]
cost       what the graphs cost
judge      all tasks of one folder and bundle
report     tables
suite      `make eval`: several sets and models
"""
