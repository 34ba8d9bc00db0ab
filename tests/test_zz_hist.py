"""scripted seeds: python -m pytest /tmp/... """
import random, os, pytest, traceback
from tests.test_stream_inline import Files, History, check, dying
from tests.test_stream_inline import files, make, night  # fixtures
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
