"""The log's tables, version by version: script N brings a file of version N - 1 up to date. Never change an old one.

A script may call `segment(session, first, last, turn, kind, body, time)`: the blob that holds this one entry.
"""

from understudy.supervisor.formats import SCHEMA_VERSION

MIGRATIONS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE sessions (
        id INTEGER PRIMARY KEY, session TEXT NOT NULL UNIQUE, agent TEXT NOT NULL, cwd TEXT NOT NULL,
        opening BLOB NOT NULL, memory BLOB NOT NULL, request TEXT NOT NULL, opened_at REAL NOT NULL
    );
    CREATE TABLE entries (
        session INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, turn INTEGER NOT NULL,
        kind TEXT NOT NULL, body BLOB NOT NULL, time REAL NOT NULL, PRIMARY KEY (session, first)
    ) WITHOUT ROWID;
    CREATE TABLE turns (
        id INTEGER PRIMARY KEY, session INTEGER NOT NULL, turn INTEGER NOT NULL, state TEXT NOT NULL,
        request TEXT NOT NULL, serves BLOB NOT NULL, UNIQUE (session, turn)
    );
    CREATE INDEX open_turns ON turns (session, turn) WHERE state <> 'ended';
    CREATE TABLE marks (actor TEXT NOT NULL, epoch INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (actor, epoch))
        WITHOUT ROWID;
    CREATE TABLE epochs (
        actor TEXT NOT NULL, epoch INTEGER NOT NULL, pid INTEGER NOT NULL, started INTEGER NOT NULL,
        status INTEGER, PRIMARY KEY (actor, epoch)
    ) WITHOUT ROWID;
    """,
    # Entries of one session that are written together are one row: most of a row's cost is that it is one.
    # A turn is found by its session while it is open only: what has ended is appended and never looked at again.
    """
    CREATE TABLE segments (id INTEGER PRIMARY KEY, last INTEGER NOT NULL, entries BLOB NOT NULL);
    INSERT INTO segments SELECT (e.session << 40) | e.first, e.last,
        segment(s.session, e.first, e.last, e.turn, e.kind, e.body, e.time)
        FROM entries e JOIN sessions s ON s.id = e.session;
    DROP TABLE entries;
    CREATE TABLE turns_in_order (
        id INTEGER PRIMARY KEY, session INTEGER NOT NULL, turn INTEGER NOT NULL, state TEXT NOT NULL,
        request TEXT NOT NULL, serves BLOB NOT NULL, client TEXT NOT NULL
    );
    INSERT INTO turns_in_order SELECT id, session, turn, state, request, serves, '' FROM turns ORDER BY id;
    DROP TABLE turns;
    ALTER TABLE turns_in_order RENAME TO turns;
    CREATE INDEX open_turns ON turns (session, turn) WHERE state <> 'ended';
    """,
    # `epoch`: of the actor that has the turn; `digest`: of what a request asked for; `size`: of a prompt's content.
    """
    ALTER TABLE turns ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE turns ADD COLUMN digest BLOB NOT NULL DEFAULT x'';
    ALTER TABLE turns ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE sessions ADD COLUMN digest BLOB NOT NULL DEFAULT x'';
    CREATE TABLE rests (agent TEXT PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;
    """,
    # `launch`: with `epoch` names the actor that has the turn. `plays`, `place`: whom an actor plays; NULL: not told.
    # `holds`: which actor's program knows a session, where it knows few.
    """
    ALTER TABLE turns ADD COLUMN launch TEXT NOT NULL DEFAULT '';
    ALTER TABLE epochs ADD COLUMN plays TEXT;
    ALTER TABLE epochs ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE holds (session INTEGER PRIMARY KEY, launch TEXT NOT NULL, epoch INTEGER NOT NULL);
    """,
    # `environment`: the name under which what the session brought is kept.
    """
    ALTER TABLE sessions ADD COLUMN environment TEXT NOT NULL DEFAULT '';
    CREATE INDEX environments ON sessions (environment) WHERE environment <> '';
    """,
)
# Made where they are missing, so they need no version: a program without them reads and writes the same.
# They find what is in the log only: what a request made, and how many sessions an agent has.
INDEXES = """
    CREATE INDEX IF NOT EXISTS opens ON sessions (request);
    CREATE INDEX IF NOT EXISTS prompts ON turns (session, request);
    CREATE INDEX IF NOT EXISTS agents ON sessions (agent);
"""
assert len(MIGRATIONS) == SCHEMA_VERSION, "a script more needs a SCHEMA_VERSION more: see supervisor/formats.py"

# What is to be known of a turn that runs. It may have said very much besides: what has none of the words is not decoded.
TOLD = ("asked", "answered", "requeued")
TOLD_QUERY = (
    "SELECT entries FROM segments WHERE last >= ? AND id BETWEEN ? AND ? AND ("
    + " OR ".join(f"instr(entries, CAST('{kind}' AS BLOB))" for kind in TOLD)
    + ") ORDER BY id"
)
