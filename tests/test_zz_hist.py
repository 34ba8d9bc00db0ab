"""scripted seeds: python -m pytest /tmp/... """
import os
import random
import traceback

import pytest

from tests.test_stream_inline import Files, History, check, dying

SEEDS=os.environ.get("SEEDS","1,9").split(",")
OPS=["land"]*3+["read"]*5+["flush"]*5+["checkpoint"]*2+["fail","fail","haunt","haunt","haunt","read_again","read_again","deliver_twice","kill","stop","close","crash","crash"]
@pytest.mark.parametrize("seed", range(int(SEEDS[0]),int(SEEDS[1])))
def test_seed(seed, make, files, night, monkeypatch):
    c=random.Random(seed); steps=[]
    for _ in range(c.randrange(20,60)):
        w=c.choice(OPS); steps.append((w, c.randrange(1,25) if w=="land" else c.randrange(1,12) if w=="read" else c.randrange(28)))
    sh=Files(c.sample(files,len(files)))
    site=make(stream={"buckets":4})
    with dying(monkeypatch) as armed:
        h=History(site,sh,armed)
        h.play(steps)
    check(site,night)

@pytest.fixture(autouse=True)
def _say(monkeypatch):
    from pipelines import house
    real=house.House._passing
    def passing(self, work):
        try: work()
        except Exception as e:
            traceback.print_exc(); print("HOUSE", repr(e), work)
    monkeypatch.setattr(house.House,"_passing",passing)
    from collections import Counter

    from sqlalchemy import select

    import tests.test_stream_inline as t
    from callward import database
    from schemas.tables import runs as r
    real_strays=t.strays
    def st(site):
        x=real_strays(site)
        if x:
            with database.reading(site.settings) as c:
                print([(q.run_id,q.status,q.swept_at) for q in c.execute(select(r))])
            print(Counter(p.split("/")[-1].split("-")[0] for p in x))
        return x
    monkeypatch.setattr(t,"strays",st)
