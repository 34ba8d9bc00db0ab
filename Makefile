# make demo | test | bench | lint | endurance | engine | lock | audit | clean. The first one that needs it makes .venv,
# from the hashed files of requirements/.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
DEMO := demo-workspace
TESTERS ?= 6
MAVEN := mvn --quiet --batch-mode
PIP := $(RUN) -m pip --quiet --disable-pip-version-check
# The lock file of the Python that is used.
LOCK = requirements/py$$($(RUN) -c 'import sys; print("%d%d" % sys.version_info[:2])')
JOB_SERVER := engine/flink/target/job-server.jar
KAFKA := engine/kafka/libs/.built
CLUSTER := engine/cluster/.built

# Tests start hundreds of processes: where byte-code must not be kept, each would compile all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test bench lint endurance engine engine-cluster lock audit clean
.NOTPARALLEL:

demo: $(INSTALLED)  ## a workspace with made-up feeds, two nights, a release, and what each person gets
	rm -rf $(DEMO)
	$(VENV)/bin/callward demo $(DEMO)

# With Java and Maven the tests run real servers; without, those that need one are skipped and say so.
SERVERS = @if command -v java >/dev/null && command -v mvn >/dev/null; then $(MAKE) engine engine-cluster || true; fi

# TESTERS processes share the files of tests (tests/balance.py); more than two cores have, as many tests wait.
# Servers of tests live too short for Java's second compiler and its threads to pay.
test: export JAVA_TOOL_OPTIONS := -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
test: $(INSTALLED)
	$(SERVERS)
	$(RUN) -m pytest -m "not endurance" --numprocesses $(TESTERS) --durations=30

endurance: $(INSTALLED)  ## long campaigns: kills at random, outages, a soak, an object store; properties at length
	$(SERVERS)
	@# Both halves run, whatever the first says.
	status=0; $(RUN) -m pytest -m endurance || status=1; \
	$(RUN) -m pytest -m "hypothesis and not endurance" --hypothesis-profile=many --numprocesses $(TESTERS) || status=1; \
	exit $$status

bench: $(INSTALLED)
	$(RUN) -m bench.bench

lint: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) .ci/licences.py

# Not in lint: a night without network, or with a new finding about old code, is no reason to stop a change.
audit: $(INSTALLED)  ## known weaknesses of what the lock file names; fails too when a package cannot be looked up
	$(RUN) -m pip_audit --strict --disable-pip --require-hashes --progress-spinner off --requirement $(LOCK)-dev.txt

lock: $(INSTALLED)  ## requirements/ anew after setup.py changed; the newest versions that fit: make lock UPGRADE=--upgrade
	$(RUN) .ci/lock.py $(UPGRADE)

engine: $(JOB_SERVER) $(KAFKA)  ## Flink's job server, which the stream needs, and Kafka, for tests and trying it

engine-cluster: $(CLUSTER)  ## Flink itself, for the tests that run a cluster on this machine

clean:  ## what make made; workspaces of your own are not touched
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf engine/flink/target engine/kafka/libs engine/kafka/target engine/cluster
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Nothing but what the lock file names, each with its hash; callward itself is built by what is installed then.
$(INSTALLED): setup.py $(wildcard requirements/*-dev.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "callward needs Python 3.11 or later; name one: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) || \
		{ echo "python cannot make a .venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@test -f $(LOCK)-dev.txt || { echo "there is no $(LOCK)-dev.txt: make clean, then make PYTHON=python3.11" >&2; exit 1; }
	$(PIP) install --require-hashes --requirement $(LOCK)-dev.txt
	PYTHONWARNINGS=ignore $(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# Maven fetches them from Maven Central, once: again only when a pom.xml changes.
$(JOB_SERVER): engine/flink/pom.xml $(shell find engine/flink/src -name '*.java')
	@command -v mvn >/dev/null || \
		{ echo "Maven is missing; on Debian and Ubuntu: apt-get install maven openjdk-17-jdk-headless" >&2; exit 1; }
	$(MAVEN) --file $< package
	@touch $@

$(KAFKA): engine/kafka/pom.xml
	@command -v mvn >/dev/null || \
		{ echo "Maven is missing; on Debian and Ubuntu: apt-get install maven openjdk-17-jdk-headless" >&2; exit 1; }
	@rm -rf engine/kafka/libs
	$(MAVEN) --file $< package
	@touch $@

# The Python package of Flink's own jars: the one way to a whole Flink that needs no tarball.
$(CLUSTER): engine/cluster.txt | $(INSTALLED)
	@rm -rf engine/cluster
	@mkdir -p engine/cluster
	$(PIP) download --require-hashes --no-deps --no-binary :all: \
		--dest engine/cluster --requirement $<
	tar --extract --gzip --file engine/cluster/*.tar.gz --directory engine/cluster --strip-components=2 \
		--wildcards '*/deps/lib' '*/deps/bin' '*/deps/plugins'
	@rm engine/cluster/*.tar.gz
	@touch $@
