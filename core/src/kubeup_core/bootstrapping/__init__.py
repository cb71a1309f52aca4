"""Steps on their way to a machine: packed as a job (`job.py`), run there by a small shell script (`runner.sh`), and what it says
(`results.py`). Pure; used by `controllers/guest.py` over a machine's access, and by `user_data.py` where there is none.
"""
