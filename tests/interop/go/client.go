// A client of codeframe.v1, generated from its protos: what tests/interop runs.
//
//	client HOST:PORT REPOSITORY REQUEST_ID
//
// Says what it meets as lines of JSON, as tests/interop/README.md tells them.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	codeframev1 "codeframe.dev/codeframe/v1"
)

type object map[string]any

type client struct {
	lead   codeframev1.LeadServiceClient
	status codeframev1.StatusServiceClient
	lines  *json.Encoder
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: client HOST:PORT REPOSITORY REQUEST_ID")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address, repository, requestID string) error {
	quick := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, MaxDelay: time.Second}
	channel, err := grpc.NewClient(
		"passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: quick, MinConnectTimeout: 5 * time.Second}),
	)
	if err != nil {
		return err
	}
	defer channel.Close()
	c := client{
		lead:   codeframev1.NewLeadServiceClient(channel),
		status: codeframev1.NewStatusServiceClient(channel),
		lines:  json.NewEncoder(os.Stdout),
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	_, err = c.lead.GetRun(ctx, &codeframev1.GetRunRequest{RunId: "no-such-run"})
	if err := c.refused(err); err != nil {
		return err
	}
	request := &codeframev1.CreateRunRequest{RequestId: requestID, Repository: repository}
	request.Work = plan(task("a", "nothing"), task("b", "b"))
	_, err = c.lead.CreateRun(ctx, request)
	if err := c.refused(err); err != nil {
		return err
	}
	request.Work = plan(task("a"), task("b", "a"), task("c", "b"))
	created, err := c.lead.CreateRun(ctx, request)
	if err != nil {
		return err
	}
	id := created.GetRun().GetRunId()
	c.say("created", object{"run_id": id, "request_id": created.GetRun().GetRequestId()})
	if err := c.follow(ctx, id); err != nil {
		return err
	}
	response, err := c.lead.GetRun(ctx, &codeframev1.GetRunRequest{RunId: id})
	if err != nil {
		return err
	}
	ended := response.GetRun()
	c.say("ended", object{
		"state":       ended.GetState().String(),
		"completed":   ended.GetCounts().GetCompleted(),
		"head_commit": ended.GetHeadCommit(),
	})
	if err := c.fetchArtifact(ctx, id); err != nil {
		return err
	}
	if ended.GetState() != codeframev1.RunState_RUN_STATE_COMPLETED {
		return errors.New("the run did not complete")
	}
	return nil
}

func plan(tasks ...*codeframev1.PlannedTask) *codeframev1.CreateRunRequest_Plan {
	return &codeframev1.CreateRunRequest_Plan{Plan: &codeframev1.Plan{Title: "A plan", Tasks: tasks}}
}

func task(id string, dependsOn ...string) *codeframev1.PlannedTask {
	return &codeframev1.PlannedTask{Id: id, Title: "Do " + id, Role: "backend", DependsOn: dependsOn}
}

func (c *client) say(name string, value any) {
	if err := c.lines.Encode(object{name: value}); err != nil {
		panic(err)
	}
}

// refused says how a call is refused.
func (c *client) refused(err error) error {
	if err == nil {
		return errors.New("the call was not refused")
	}
	fields := []string{}
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			for _, violation := range bad.GetFieldViolations() {
				fields = append(fields, violation.GetField())
			}
		}
	}
	c.say("error", object{"code": codeName(status.Code(err)), "reason": reasonOf(err), "fields": fields})
	return nil
}

// reasonOf is the reason of ours that an error bears; empty where it says nothing about the work.
func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "codeframe" {
			return info.GetReason()
		}
	}
	return ""
}

func codeName(code codes.Code) string {
	names := map[codes.Code]string{codes.NotFound: "NOT_FOUND", codes.InvalidArgument: "INVALID_ARGUMENT"}
	if name, ok := names[code]; ok {
		return name
	}
	return code.String()
}

// follow reads a run's events to its end, across connections that drop.
func (c *client) follow(ctx context.Context, runID string) error {
	cursor := ""
	for range 200 {
		before := cursor
		err := c.watch(ctx, runID, &cursor)
		if err == nil {
			return nil
		}
		if !slices.Contains([]string{"", "ERROR_REASON_UNAVAILABLE"}, reasonOf(err)) || ctx.Err() != nil {
			return err
		}
		if cursor != before {
			c.say("dropped", object{"cursor": cursor})
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("the lead stays away")
}

func (c *client) watch(ctx context.Context, runID string, cursor *string) error {
	stream, err := c.status.WatchEvents(ctx, &codeframev1.WatchEventsRequest{
		RunIds: []string{runID},
		Start:  &codeframev1.WatchEventsRequest_Cursor{Cursor: *cursor},
	})
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, event := range response.GetEvents() {
			text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(event)
			if err != nil {
				return err
			}
			c.say("event", json.RawMessage(text))
			*cursor = event.GetCursor()
		}
		if bookmark := response.GetBookmark(); bookmark != nil {
			*cursor = bookmark.GetCursor()
		}
	}
}

func (c *client) fetchArtifact(ctx context.Context, runID string) error {
	attempts, err := c.lead.ListAttempts(ctx, &codeframev1.ListAttemptsRequest{RunId: runID, TaskId: "a"})
	if err != nil {
		return err
	}
	id := attempts.GetAttempts()[0].GetAttemptId()
	listed, err := c.lead.ListArtifacts(ctx, &codeframev1.ListArtifactsRequest{AttemptId: id})
	if err != nil {
		return err
	}
	at := slices.IndexFunc(listed.GetArtifacts(), func(each *codeframev1.Artifact) bool {
		return each.GetName() == "diff"
	})
	if at < 0 {
		return errors.New("the attempt has no diff")
	}
	diff := listed.GetArtifacts()[at]
	stream, err := c.lead.ReadArtifact(ctx, &codeframev1.ReadArtifactRequest{AttemptId: id, Name: "diff"})
	if err != nil {
		return err
	}
	digest, size := sha256.New(), int64(0)
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		digest.Write(part.GetData())
		size += int64(len(part.GetData()))
	}
	sum := hex.EncodeToString(digest.Sum(nil))
	if sum != diff.GetSha256() || size != diff.GetSize() {
		return errors.New("the artifact is not the one that is listed")
	}
	c.say("artifact", object{"attempt_id": id, "name": "diff", "size": size, "sha256": sum})
	return nil
}
