import pytest

from langevin.cli import main


@pytest.fixture
def told(capfd):
    """Run a command; returns (status, what was printed, what was said on the error stream)."""

    def run(*arguments):
        capfd.readouterr()
        status = main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return status, out, err

    return run


@pytest.fixture
def refused(told):
    """Run a command that cannot be done; returns its message, which is short, in words and no traceback."""

    def run(*arguments):
        status, _, err = told(*arguments)
        assert status == 1
        assert "Traceback" not in err
        assert "not foreseen" not in err
        message = err[err.rindex("langevin: ") :]
        assert len(message) < 1500
        return message

    return run
