"""What our code on the event loop never does, read from the syntax tree. Each rule yields offences."""

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

LEAVES_THE_LOOP = frozenset(
    {
        "run_in_executor",
        "set_default_executor",
        "to_thread",
        "ThreadPoolExecutor",
        "ProcessPoolExecutor",
        "InterpreterPoolExecutor",
        "start_new_thread",
        "run_coroutine_threadsafe",
        "call_soon_threadsafe",
        "ensure_future",
        "run_until_complete",
        "new_event_loop",
        # What asyncio and starlette do in a thread of their own.
        "getaddrinfo",
        "getnameinfo",
        "run_in_threadpool",
        "iterate_in_threadpool",
        "FileResponse",
        "StaticFiles",
        "BackgroundTask",
        "BackgroundTasks",
        "GZipMiddleware",
        "HTTPEndpoint",
        "QueueListener",
        # Code that no tree shows.
        "eval",
        "exec",
        "__import__",
    }
)
THREADED_MODULES = frozenset(
    {"threading", "_thread", "concurrent", "multiprocessing", "nest_asyncio", "asgiref", "anyio"}
)
BLOCKING_GRPC = frozenset({"server", "insecure_channel", "secure_channel", "intercept_channel"})
ASKS_FOR_A_LOOP = frozenset({"get_event_loop", "_get_running_loop", "is_running", "current_async_library"})
FAILS_WITHOUT_A_LOOP = frozenset({"get_running_loop", "current_task", "all_tasks"})
SAYS_THERE_IS_NONE = frozenset({"RuntimeError", "Exception", "BaseException"})
MAKES_TASKS = frozenset({"gather", "shield", "as_completed"})
KNOWN_BY_THEIR_CALLS = FAILS_WITHOUT_A_LOOP | {"create_task"}
KNOWN_BY_NAME = KNOWN_BY_THEIR_CALLS | ASKS_FOR_A_LOOP | MAKES_TASKS | {"suppress"}
INNER_ASYNCIO = frozenset(
    {"base_events", "events", "runners", "staggered", "taskgroups", "tasks", "threads", "unix_events"}
)
AWAITED = frozenset({"execute_task", "ExecuteTask", "broadcast", "_broadcast", "broadcast_task_status"})
BROADCASTS = frozenset({"Broadcast", "AttemptLog"})
"""The kinds of what broadcasts, by whatever name."""

Scope = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Offence:
    """What a rule forbids, and the line where it stands."""

    line: int
    what: str


Rule = Callable[[ast.Module], Iterator[Offence]]


def leaves_the_loop(tree: ast.Module) -> Iterator[Offence]:
    """Threads, pools, executors, a second loop, and modules that are about nothing else."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in LEAVES_THE_LOOP:
                yield Offence(node.lineno, name)
            case ast.Import(names=names):
                for each in names:
                    if each.name.partition(".")[0] in THREADED_MODULES:
                        yield Offence(node.lineno, f"import {each.name}")
            case ast.ImportFrom(module=module, names=names):
                if (module or "").partition(".")[0] in THREADED_MODULES:
                    yield Offence(node.lineno, f"from {module} import …")
                for each in names:
                    if each.name in LEAVES_THE_LOOP | {"futures"}:
                        yield Offence(node.lineno, each.name)
                    if module == "grpc" and each.name in BLOCKING_GRPC:
                        yield Offence(node.lineno, f"grpc.{each.name}")
            case ast.Attribute(value=ast.Name(id="grpc"), attr=name) if name in BLOCKING_GRPC:
                yield Offence(node.lineno, f"grpc.{name}")
            case ast.Constant(value=str(name)) if name in LEAVES_THE_LOOP | THREADED_MODULES:
                yield Offence(node.lineno, f"{name!r}, to be looked up by its name")


def detects_a_loop(tree: ast.Module) -> Iterator[Offence]:
    """Asking whether a loop runs: by a call made for it, or by the error that says that none does."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in ASKS_FOR_A_LOOP:
                yield Offence(node.lineno, name)
            case ast.Try() | ast.TryStar():
                caught = [handler.type for handler in node.handlers]
                if any(_says_there_is_none(kind) for kind in caught):
                    yield from _asks(node.body)
            case ast.With() | ast.AsyncWith():
                suppressed = [
                    argument
                    for item in node.items
                    if isinstance(item.context_expr, ast.Call) and _last(item.context_expr.func) == "suppress"
                    for argument in item.context_expr.args
                ]
                if any(_says_there_is_none(kind) for kind in suppressed):
                    yield from _asks(node.body)


def hides_what_it_calls(tree: ast.Module) -> Iterator[Offence]:
    """What other rules know by its name or its call: under another name, looked up, or handed on uncalled."""
    whole = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    # An annotation calls nothing; `asyncio.Task[None]` is a kind, which rules know by that name.
    whole |= {id(node) for kind in _annotations(tree) for node in ast.walk(kind)}
    whole |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Subscript)}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in KNOWN_BY_THEIR_CALLS:
                if id(node) not in whole:
                    yield Offence(node.lineno, f"{name}, not called where it stands")
            case ast.Attribute(value=ast.Name(id="asyncio"), attr=name):
                if name in MAKES_TASKS | {"Task"} and id(node) not in whole:
                    yield Offence(node.lineno, f"{name}, not called where it stands")
                if name in INNER_ASYNCIO or name.startswith("_"):
                    yield Offence(node.lineno, f"asyncio.{name}, which is asyncio's own")
            case ast.Name(id="asyncio") if id(node) not in whole:
                yield Offence(node.lineno, "asyncio handed on")
            case ast.Constant(value=str(name)) if name in KNOWN_BY_NAME:
                yield Offence(node.lineno, f"{name!r}, to be looked up by its name")
            case ast.ImportFrom(module=str(module), names=names):
                if module == "asyncio" and any(each.name in INNER_ASYNCIO | {"Task", "*"} for each in names):
                    yield Offence(node.lineno, "asyncio's own without asyncio's name")
                if module.startswith("asyncio.") and module != "asyncio.subprocess":
                    yield Offence(node.lineno, f"{module}, which is asyncio's own")
                if module == "asyncio" and any(each.name in MAKES_TASKS for each in names):
                    yield Offence(node.lineno, "what makes tasks, without asyncio's name")
                for each in names:
                    if each.name in KNOWN_BY_NAME and each.asname:
                        yield Offence(node.lineno, f"{each.name} as {each.asname}")
            case ast.Import(names=names):
                if any(each.name.partition(".")[0] == "asyncio" and each.asname for each in names):
                    yield Offence(node.lineno, "asyncio by another name")


def _annotations(tree: ast.Module) -> Iterator[ast.expr]:
    """Where a kind is told, and nothing done."""
    for node in ast.walk(tree):
        match node:
            case ast.arg(annotation=ast.expr() as kind) | ast.AnnAssign(annotation=kind):
                yield kind
            case (
                ast.FunctionDef(returns=ast.expr() as kind) | ast.AsyncFunctionDef(returns=ast.expr() as kind)
            ):
                yield kind


def _says_there_is_none(kind: ast.expr | None) -> bool:
    if isinstance(kind, ast.Tuple):
        return any(_says_there_is_none(each) for each in kind.elts)
    return kind is None or _last(kind) in SAYS_THERE_IS_NONE


def _asks(body: list[ast.stmt]) -> Iterator[Offence]:
    """Statements of a `try` that only ask for the loop; where one does work as well, its errors are other."""
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and _last(node.func) in FAILS_WITHOUT_A_LOOP:
                yield Offence(node.lineno, f"{_last(node.func)}() in a try that catches its absence")


def forgets_a_task(tree: ast.Module) -> Iterator[Offence]:
    """A task that nobody owns.

    A task is made by a TaskGroup: a name or attribute that `async with TaskGroup() as` binds, that is
    annotated as one, or that one of these is assigned to; a name is one where it is bound, and in functions
    inside, an attribute in its class. Any other `create_task` must give a name, no other task's, which the
    same function awaits, or hands to something that it awaits. So must what makes tasks on the way, as
    `gather`, where it is not awaited itself. Nobody makes a `Task` by hand.
    """
    made_by_hand = {"asyncio.Task"} | {
        ast.unparse(target)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _without_kind(node.value) == "asyncio.Task"
        for target in node.targets
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _without_kind(node.func) in made_by_hand:
            yield Offence(node.lineno, f"{ast.unparse(node.func)}(), a task made by hand")
    yield from _forgotten(tree, set())


def _without_kind(expression: ast.expr) -> str:
    """`asyncio.Task` for `asyncio.Task[None]`."""
    return ast.unparse(expression.value if isinstance(expression, ast.Subscript) else expression)


def _forgotten(scope: Scope, known: set[str]) -> Iterator[Offence]:
    """The same of a scope, and of those inside it, where so many groups are known."""
    own = [*_own_nodes(scope)]
    match scope:
        case ast.ClassDef():
            groups = known | {each for each in _groups(ast.walk(scope)) if "." in each}
        case ast.Module():
            groups = known | _groups(own)
        case _:
            groups = known | _groups([*ast.walk(scope.args), *own])
    awaits = [node for each in own if isinstance(each, ast.Await) for node in ast.walk(each)]
    awaited = {node.id for node in awaits if isinstance(node, ast.Name)}
    names = [_kept_as(statement) for statement in own]
    for statement in own:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _forgotten(statement, groups)
        kept = (name := _kept_as(statement)) in awaited and names.count(name) == 1
        for call in _calls_in(statement):
            text = ast.unparse(call.func)
            match _last(call.func):
                case "create_task":
                    owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
                    owned = owner in groups or kept
                case made if made in MAKES_TASKS:
                    owned = call in awaits or kept
                case _:
                    owned = True
            if not owned:
                yield Offence(call.lineno, f"{text}() outside a TaskGroup, not awaited")


def _groups(nodes: Iterable[ast.AST]) -> set[str]:
    """The text of every expression that is a TaskGroup."""
    found: set[str] = set()
    assigned: list[tuple[str, str]] = []
    for node in nodes:
        match node:
            case ast.withitem(context_expr=made, optional_vars=ast.expr() as name):
                if _makes_group(made):
                    found.add(ast.unparse(name))
            case ast.arg(arg=name, annotation=ast.expr() as kind):
                if _is_group(kind):
                    found.add(name)
            case ast.AnnAssign(target=target, annotation=kind):
                if _is_group(kind):
                    found.add(ast.unparse(target))
            case ast.Assign(targets=[target], value=ast.Await(value=value)) if _makes_group(value):
                found.add(ast.unparse(target))
            case ast.Assign(targets=[target], value=value):
                assigned.append((ast.unparse(target), ast.unparse(value)))
    return found | {target for target, value in assigned if value in found}


def _makes_group(made: ast.expr) -> bool:
    """`TaskGroup()`, or that handed to an exit stack."""
    if not isinstance(made, ast.Call):
        return False
    return _last(made.func) == "TaskGroup" or any(_makes_group(argument) for argument in made.args)


def _is_group(kind: ast.expr) -> bool:
    return any(_last(node) == "TaskGroup" for node in ast.walk(kind) if isinstance(node, ast.expr))


def _kept_as(node: ast.AST) -> str:
    """The one name that an assignment gives what its right side is, a call."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call()):
            return name
    return ""


def _own_nodes(scope: Scope) -> Iterator[ast.AST]:
    """The nodes of a scope, less those of functions and classes inside it."""
    waiting: list[ast.AST] = list(scope.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            waiting += ast.iter_child_nodes(node)


def _calls_in(node: ast.AST) -> Iterator[ast.Call]:
    """The calls that a statement makes by itself, not those of statements inside it."""
    waiting = [child for child in ast.iter_child_nodes(node) if isinstance(node, ast.stmt)]
    while waiting:
        child = waiting.pop()
        if isinstance(child, ast.Call):
            yield child
        if not isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case)):
            waiting += ast.iter_child_nodes(child)


def leaves_unawaited(tree: ast.Module) -> Iterator[Offence]:
    """A task's execution or a broadcast that is called but not directly awaited, or bound to be called later.

    It is known by its name, by its annotation, and by what a name of it is assigned to.
    """
    known = set[str]()
    assigned: list[tuple[ast.expr, ast.expr]] = []
    for node in ast.walk(tree):
        match node:
            case ast.arg(arg=name, annotation=ast.expr() as kind) if _last(kind) in BROADCASTS:
                known.add(name)
            case (
                ast.Assign(targets=[target], value=value)
                | ast.AnnAssign(target=target, value=ast.expr() as value)
            ):
                assigned.append((target, value))
    for target, value in assigned:
        is_made = isinstance(value, ast.Call) and _last(value.func) in BROADCASTS | {"unary_unary"}
        if is_made or _last(value) in AWAITED or ast.unparse(value) in known:
            known.add(ast.unparse(target))
    awaited = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Await)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or id(node) in awaited:
            continue
        late = node.args[0] if _last(node.func) == "partial" and node.args else node.func
        if _last(late) in AWAITED or ast.unparse(late) in known:
            yield Offence(node.lineno, f"{ast.unparse(late)}() is not awaited")


def _last(expression: ast.expr) -> str:
    """The last name of a dotted expression."""
    match expression:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""
