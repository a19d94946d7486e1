"""What frameworks keep in a context: a task must not share it with the request that posted it."""

import gc
import itertools
import threading

import pytest

asgiref_local = pytest.importorskip("asgiref.local")
flask = pytest.importorskip("flask")
flask_sqlalchemy = pytest.importorskip("flask_sqlalchemy")
sqlalchemy = pytest.importorskip("sqlalchemy")


class Shop:
    """A Flask application with a database, and a request that posts a task which outlives it."""

    def __init__(self, url, pool):
        self.app = flask.Flask("shop")
        self.app.config["SQLALCHEMY_DATABASE_URI"] = url
        self.app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_size": 1, "max_overflow": 0}
        self.db = flask_sqlalchemy.SQLAlchemy(self.app)
        self.is_over = threading.Event()
        self.tasks = []

        class Row(self.db.Model):
            id = self.db.Column(self.db.Integer, primary_key=True)
            text = self.db.Column(self.db.String)

        self.row = Row
        self.connections = []
        with self.app.app_context():
            note = self.connections.append
            sqlalchemy.event.listen(self.db.engine, "connect", lambda new, _: note(new))
            self.db.create_all()

        @self.app.route("/post")
        def post():
            self.db.session.execute(self.db.select(Row)).all()
            self.tasks.append(pool.submit(self.work))
            return "posted"

        @self.app.route("/rows")
        def rows():
            self.db.session.commit()  # of what this request has done, which is nothing
            return [row.text for row in self.db.session.scalars(self.db.select(Row))]

    def work(self):
        """Add a row and fail before it is committed, once the request is over."""
        assert self.is_over.wait(20)
        try:
            self.db.session.add(self.row(text="half done"))
        except RuntimeError as error:
            return str(error)
        self.db.session.flush()
        raise LookupError


@pytest.fixture
def make_shop(tmp_path, make_pool):
    """Make the shop, whose pool has the defaults but for the options given."""
    shops = []

    def make(**options):
        shops.append(Shop(f"sqlite:///{tmp_path}/shop.db", make_pool(2, **options)))
        return shops[-1]

    yield make
    # Whoever still holds a session, a failure's traceback for one, gives no connection back.
    for connection in itertools.chain(*(shop.connections for shop in shops)):
        connection.close()
    shops.clear()
    gc.collect()  # SQLAlchemy logs of such a session when it goes: here, and not in another test


@pytest.fixture
def shop(make_shop):
    """Give the shop; its pool has the defaults."""
    return make_shop()


def open_sessions(shop):
    """Count the sessions that are registered, and the connections that are taken."""
    with shop.app.app_context():
        taken = shop.db.engine.pool.checkedout()
    return len(shop.db.session.registry.registry), taken


def test_a_task_that_outlives_its_request_has_no_session(shop):
    """It is told that it is outside of an application, and opens nothing under the request's id."""
    client = shop.app.test_client()
    assert client.get("/post").text == "posted"
    shop.is_over.set()
    assert "outside of application context" in shop.tasks[0].result(20)
    assert open_sessions(shop) == (0, 0)
    assert [client.get("/rows").json for _ in range(10)] == [[]] * 10


def test_a_task_with_an_application_context_of_its_own(shop):
    """Its session ends with it: rolled back, its connection given back, no later request's."""
    client, work = shop.app.test_client(), shop.work

    def own():
        with shop.app.app_context():
            return work()

    shop.work = own
    for _ in range(3):
        client.get("/post")
    shop.is_over.set()
    assert all(isinstance(task.exception(20), LookupError) for task in shop.tasks)
    assert open_sessions(shop) == (0, 0)
    assert [client.get("/rows").json for _ in range(10)] == [[]] * 10


def test_propagation_is_what_would_share_the_session(make_shop):
    """With `propagate_context=True` the task's session is registered as the request's, for ever."""
    shop = make_shop(propagate_context=True)
    shop.app.test_client().get("/post")
    shop.is_over.set()
    assert isinstance(shop.tasks[0].exception(20), LookupError)
    _, taken = open_sessions(shop)
    assert taken == 1
    shop.db.session.registry.registry.clear()


def test_what_asgiref_keeps_is_not_shared(make_pool):
    """An asgiref `Local` of the poster's is not the task's, nor that of a task the next one's."""
    local = asgiref_local.Local()
    local.connection = "the poster's"
    pool = make_pool(1)

    def use():
        before = getattr(local, "connection", None)
        local.connection = "the task's"
        return before

    assert [pool.submit(use).result(20) for _ in range(2)] == [None, None]
    assert local.connection == "the poster's"
