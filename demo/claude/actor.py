"""The actor: what is said to a request, and how it is brought to the client."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass

from demo.claude.bill import Bill
from demo.claude.cache import PromptCache, estimate, size
from demo.claude.conversation import Conversation, read_conversation
from demo.claude.errors import ApiError, error_body
from demo.claude.limits import Limits
from demo.claude.reply import Reply, delta_text, events, message, reply
from demo.claude.request import MessagesRequest, Prompt, read_prompt, read_request
from demo.claude.script import Fault, Mismatch, Script, Step, check_calls
from demo.claude.stream import Dropped, encode_event

log = logging.getLogger("scripted-claude")


class Actor:
    """Says what the scripts tell it.

    Of a conversation it remembers only how often a faulty step was tried, by marker and turn; that ends with
    the process.
    """

    def __init__(
        self,
        scripts: Mapping[str, Script],
        models: tuple[str, ...],
        bill: Bill,
        cache: PromptCache,
        limits: Limits,
        new_id: Callable[[str], str],
        pace: float = 1.0,
    ) -> None:
        """`new_id` makes an id after a prefix; `pace` is what the waits of slow steps are multiplied by."""
        self._scripts = scripts
        self._models = models
        self._bill = bill
        self._cache = cache
        self._limits = limits
        self._new_id = new_id
        self._pace = pace
        self._tried: Counter[tuple[str, int, int]] = Counter()

    def begin(self, body: bytes, request_id: str) -> "Turn":
        """Decide what is said to a request.

        Raises ApiError where the request is at fault, the script orders a status, or no script fits.
        """
        conversation = None
        try:
            request = read_request(body)
            self._check_model(request)
            conversation = read_conversation(request)
            headers = self._limits.take()
            self._limits.check_length(size(request))
            step, fault = self._choose(request, conversation)
        except ApiError as error:
            self._bill.refused(request_id, error.status, error.message, conversation)
            where = f"{conversation.marker} turn {conversation.turn}" if conversation else "no conversation"
            log.warning("%s %s: %d %s", request_id, where, error.status, error.message)
            raise
        tokens = self._cache.count(request)
        garble = fault is not None and fault.garble is not None
        said = reply(step, request.model, request.max_tokens, tokens, self._new_id, garble)
        self._bill.started(request_id, request.model, conversation, tokens)
        log.info("%s %s turn %d: %s", request_id, conversation.marker, conversation.turn, _told(said))
        pace = step.pace * self._pace
        return Turn(request_id, request.stream, said, pace, fault, self._bill, headers)

    def count(self, body: bytes) -> int:
        """The tokens of a request's input, as its usage would add up to. Raises ApiError."""
        prompt = read_prompt(body)
        self._check_model(prompt)
        return size(prompt)

    def _check_model(self, prompt: Prompt) -> None:
        if prompt.model not in self._models:
            raise ApiError(404, f"model: {prompt.model}")

    def _choose(self, request: MessagesRequest, conversation: Conversation) -> tuple[Step, Fault | None]:
        script = self._scripts.get(conversation.marker)
        try:
            if script is None:
                raise Mismatch(f"there is none; known are: {', '.join(sorted(self._scripts))}")
            number, step = script.step(conversation)
            check_calls(step, request)
        except Mismatch as mismatch:
            raise ApiError(400, _complaint(conversation, mismatch)) from None
        if not step.faults:
            return step, None
        place = (conversation.marker, conversation.turn, number)
        fault = step.fault(self._tried[place])
        self._tried[place] += 1
        if fault is None or fault.status is None:
            return step, fault
        raise ApiError(
            fault.status, "scripted Claude: its script orders this", fault.retry_after, fault.headers
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that began: its input is on the bill. Bring it once, by `events` or by `whole`."""

    request_id: str
    streamed: bool
    said: Reply
    pace: float
    fault: Fault | None
    bill: Bill
    headers: Mapping[str, str]

    async def events(self) -> AsyncGenerator[bytes]:
        """The reply as server-sent events. Raises Dropped where the script cuts the connection."""
        sent, finished = "", False
        told = list(events(self.said))
        strike = self._strike(len(told))
        try:
            for at, event in enumerate(told):
                if at == strike and await self._ends_here():
                    if self.fault and self.fault.error_after is not None:
                        yield self._error_event(self.fault.error)
                    return
                text = delta_text(event)
                if text and self.pace:
                    await asyncio.sleep(self.pace)
                yield encode_event(event)
                sent += text
            finished = True
        finally:
            self._end(finished, sent)

    async def whole(self) -> AsyncGenerator[bytes]:
        """The reply as one JSON body. Raises Dropped where the script cuts the connection."""
        finished = False
        body = json.dumps(message(self.said)).encode()
        try:
            await asyncio.sleep(self.pace * sum(bool(delta_text(event)) for event in events(self.said)))
            if self.fault and self.fault.drop_after is not None:
                yield body[: len(body) // 2]
            if self._strike(1) == 0 and await self._ends_here():
                return
            yield body
            finished = True
        finally:
            self._end(finished, "")

    def _strike(self, length: int) -> int | None:
        """Before which of `length` events the fault strikes; at the latest before the last."""
        if self.fault is None or self.fault.garble:
            return None
        places = (self.fault.drop_after, self.fault.end_after, self.fault.error_after, self.fault.stall_after)
        return min(next((place for place in places if place is not None), 0), length - 1)

    async def _ends_here(self) -> bool:
        """Let the fault strike; false where the reply goes on after it."""
        if self.fault is None:
            return False
        if self.fault.drop_after is not None:
            raise Dropped
        if self.fault.stall_after is not None:
            await asyncio.sleep(self.fault.seconds)
            return False
        return True

    def _error_event(self, kind: str) -> bytes:
        return encode_event(error_body(kind, "scripted Claude: its script orders this", self.request_id))

    def _end(self, finished: bool, sent: str) -> None:
        if finished:
            self.bill.ended(self.request_id, "finished", self.said.output_tokens)
        else:
            self.bill.ended(self.request_id, "broken", estimate(sent))
            log.warning("%s: the reply was not finished", self.request_id)


def _complaint(conversation: Conversation, mismatch: Mismatch) -> str:
    """What to mend a script by."""
    return (
        f"scripted Claude: script {conversation.marker!r} does not fit turn {conversation.turn}: {mismatch}. "
        f"Last text: {_clip(conversation.last_text)}. Last tool results"
        f"{' (an error)' if conversation.last_error else ''}: {_clip(conversation.last_results)}"
    )


def _clip(text: str) -> str:
    return repr(text if len(text) <= 600 else f"{text[:300]} … {text[-300:]}")


def _told(said: Reply) -> str:
    tools = [block.name for block in said.blocks if hasattr(block, "name")]
    return f"{said.stop_reason} {' '.join(tools)}".strip()
