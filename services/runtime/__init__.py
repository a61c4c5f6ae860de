"""What any server process needs, ignorant of tasks.

A service's `__main__` reads top-down:

    @click.command(cls=ServerCommand)
    @click.option(...)                                 # its own settings
    @server_options(port=50051, data_dir="lead")       # --host --port --data-dir --ready-file ...
    def main(settings: ServerSettings, ...) -> None:
        run_process("lead", serve(settings, ...), settings)

    async def serve(settings: ServerSettings, ...) -> None:
        server = Server(settings, services=("codeframe.v1.LeadService",), ages_connections=True)
        lead_pb2_grpc.add_LeadServiceServicer_to_server(servicer, server.grpc)
        await server.run(drain)                        # returns when stopped; CannotStart if it can't

    async def drain(hastened: asyncio.Event) -> None: ...

- `settings`: `ServerCommand`, `server_options`, `ServerSettings`: flags and CODEFRAME_* variables;
  a bad one is one line and exit code 2.
- `process`: `run_process(service, coroutine, settings)`: logs, child watcher, collector, loop;
  `CannotStart(line)` from anywhere in it is that one line and exit code 1.
  `stop_on_signals` for a process without a gRPC server.
- `server`: `Server(settings, services, ages_connections=False)` with `.grpc`, `.address`, `.run(drain)`, and
  `.start()` alone for tests. It has our channel options, health, reflection and a two-stage stop.
- `errors`: `ServiceError` and its kinds (`NotFound("RUN_NOT_FOUND", "no run x")`), which servicers raise;
  `to_status`, the one table to gRPC statuses with details. Clients decode with `codeframe.errors`.
- `interceptors`: that table at the edge, and protovalidate before every handler; `Server` has them.
- `logs`: human or JSON; bind run, task and attempt with `structlog.contextvars.bound_contextvars`.
- `channel`: `open_channel(address)`, a client channel to another service.
- `git`: `Git(environ).run(...)`, with nothing of the user's; `clone`: a bare `Clone` of a repository;
  `child`: the trusted child process below both.
- `folder_lock`: `FolderLock(path)`, on a folder that a server and its trusted children write to.
- `prices`: the price table, and `Prices.of(model)`.
- `lag`: `recording_lag()`, how long the event loop kept others waiting; `run_process` logs what held it up.
- `stacks`: on SIGUSR1 a process writes every thread's and every task's stack to standard error, and goes on.

`--exit-with-parent` stops a server when its standard input ends: start it with `stdin=PIPE` and keep that
open; however the parent ends, even by SIGKILL, its children then stop in order. `--ready-file` gets the bound
`host:port` and a newline, whole, once the server answers; it is removed when the server stops.
"""
