// A client of codeframe.v1, generated from its protos: what tests/interop runs.
//
//     node client.ts HOST:PORT REPOSITORY REQUEST_ID
//
// Says what it meets as lines of JSON, as tests/interop/README.md tells them.
import { createHash } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";

import { create, toJson } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { type CreateRunResponse, LeadService } from "./gen/codeframe/v1/lead_pb.js";
import { PlanSchema } from "./gen/codeframe/v1/plan_pb.js";
import { RunState, RunStateSchema } from "./gen/codeframe/v1/state_pb.js";
import { JournaledEventSchema, StatusService } from "./gen/codeframe/v1/status_pb.js";
import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";

const [address, repository, requestId] = process.argv.slice(2);
if (address === undefined || repository === undefined || requestId === undefined) {
  throw new Error("usage: client.ts HOST:PORT REPOSITORY REQUEST_ID");
}
const transport = createGrpcTransport({ baseUrl: `http://${address}` });
const lead = createClient(LeadService, transport);
const status = createClient(StatusService, transport);

function say(line: object): void {
  process.stdout.write(JSON.stringify(line) + "\n");
}

function createRun(...tasks: [id: string, ...dependsOn: string[]][]): Promise<CreateRunResponse> {
  const plan = create(PlanSchema, {
    title: "A plan",
    tasks: tasks.map(([id, ...dependsOn]) => ({ id, title: `Do ${id}`, role: "backend", dependsOn })),
  });
  return lead.createRun({ requestId, repository, work: { case: "plan", value: plan } });
}

/** The reason of ours that an error bears; empty where it says nothing about the work. */
function reasonOf(error: ConnectError): string {
  const [info] = error.findDetails(ErrorInfoSchema);
  return info?.domain === "codeframe" ? info.reason : "";
}

/** Say how a call is refused. */
async function refused(call: Promise<unknown>): Promise<void> {
  const error = await call.then(
    () => new Error("the call was not refused"),
    (reason: unknown) => reason,
  );
  if (!(error instanceof ConnectError)) {
    throw error;
  }
  const [bad] = error.findDetails(BadRequestSchema);
  const fields = (bad?.fieldViolations ?? []).map(({ field }) => field);
  const code = Code[error.code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
  say({ error: { code, reason: reasonOf(error), fields } });
}

/** Follow a run to its end, across connections that drop. */
async function follow(runId: string): Promise<void> {
  let cursor = "";
  let fresh = false;
  for (let failures = 0; failures < 200; failures++) {
    try {
      const responses = status.watchEvents({ runIds: [runId], start: { case: "cursor", value: cursor } });
      for await (const response of responses) {
        for (const event of response.events) {
          say({ event: toJson(JournaledEventSchema, event, { useProtoFieldName: true }) });
          cursor = event.cursor;
          fresh = true;
        }
        cursor = response.bookmark?.cursor ?? cursor;
      }
      return;
    } catch (error) {
      if (!(error instanceof ConnectError) || !["", "ERROR_REASON_UNAVAILABLE"].includes(reasonOf(error))) {
        throw error;
      }
    }
    if (fresh) {
      say({ dropped: { cursor } });
      fresh = false;
    }
    await wait(100);
  }
  throw new Error("the lead stays away");
}

async function fetchArtifact(runId: string): Promise<void> {
  const { attempts } = await lead.listAttempts({ runId, taskId: "a" });
  const attemptId = attempts[0]!.attemptId;
  const { artifacts } = await lead.listArtifacts({ attemptId });
  const diff = artifacts.find(({ name }) => name === "diff")!;
  const digest = createHash("sha256");
  let size = 0;
  for await (const { data } of lead.readArtifact({ attemptId, name: diff.name })) {
    digest.update(data);
    size += data.length;
  }
  const sha256 = digest.digest("hex");
  if (sha256 !== diff.sha256 || BigInt(size) !== diff.size) {
    throw new Error("the artifact is not the one that is listed");
  }
  say({ artifact: { attempt_id: attemptId, name: diff.name, size, sha256 } });
}

await refused(lead.getRun({ runId: "no-such-run" }));
await refused(createRun(["a", "nothing"], ["b", "b"]));
const { run } = await createRun(["a"], ["b", "a"], ["c", "b"]);
say({ created: { run_id: run!.runId, request_id: run!.requestId } });
await follow(run!.runId);
const { run: ended } = await lead.getRun({ runId: run!.runId });
const state = RunStateSchema.values.find(({ number }) => number === ended!.state)!.name;
say({ ended: { state, completed: ended!.counts!.completed, head_commit: ended!.headCommit } });
await fetchArtifact(run!.runId);
process.exit(ended!.state === RunState.COMPLETED ? 0 : 1);
