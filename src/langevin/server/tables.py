"""The tables of the database: jobs, their files, and the audit log."""

import sqlalchemy as sa

META = sa.MetaData()
JOBS = sa.Table(
    "jobs", META,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("created", sa.Float, nullable=False, index=True),
    sa.Column("ended", sa.Float),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    sa.Column("cancelled", sa.Boolean, nullable=False, default=False),
    sa.Column("error", sa.Text),
    sa.Column("done", sa.Integer, nullable=False, default=0),
    sa.Column("total", sa.Integer, nullable=False, default=0),
    sa.Column("owner", sa.String(64)),
    sa.Column("lease", sa.Float, nullable=False, default=0.0),
    sa.Column("idempotency", sa.String(200), unique=True),
    sa.Column("review", sa.Text),
    sa.Column("queue", sa.String(16), nullable=False),
    sa.Column("client", sa.String(64), nullable=False),
)  # fmt: skip
FILES = sa.Table(
    "files", META,
    sa.Column("job", sa.String(64), primary_key=True),
    sa.Column("role", sa.String(16), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
)  # fmt: skip
SEEDS = sa.Table(  # that were used with a watermark
    "seeds", META,
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("seed", sa.BigInteger, primary_key=True),
    sa.Column("count", sa.Integer, primary_key=True),
    sa.Column("steps", sa.Integer, primary_key=True),
)  # fmt: skip
AUDIT = sa.Table(
    "audit", META,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("event", sa.String(32), nullable=False),
    sa.Column("facts", sa.Text, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)  # fmt: skip
