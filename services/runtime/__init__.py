"""What any server process needs, ignorant of tasks.

A service's `__main__` reads top-down:

    @click.command(context_settings=CONTEXT)
    @server_options(port=50051)                        # settings: --host --port --data-dir --ready-file ...
    def main(settings: ServerSettings) -> None:
        run_process(serve_lead(settings), settings)    # process: loop, child watcher, logs; exit codes

    async def serve_lead(settings: ServerSettings) -> None:
        server = Server(settings, services=("codeframe.v1.LeadService", ...))
        add_LeadServiceServicer_to_server(servicer, server.grpc)
        await server.run(drain=drain)                  # server: bind, health, ready file, two-stage stop

- `errors`: exceptions that servicers raise, and the one table to gRPC statuses with details.
- `interceptors`: that table at the edge, and protovalidate before every handler.
- `server`: a `grpc.aio` server with DESIGN §9's options, health, reflection and a two-stage stop.
- `process`: one clear line for a bad setting or a taken port; signals; the parent's end.
- `settings`: flags and CODEFRAME_* variables that servers share.
- `logs`: human or JSON, with run, task and attempt bound.
- `channel`: client channels between services.
"""
