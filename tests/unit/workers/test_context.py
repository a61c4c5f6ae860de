"""A conversation that has outgrown the model's context, made shorter."""

from services.workers.context import shortened
from services.workers.model.conversation import (
    Conversation,
    Reply,
    Stop,
    ToolCall,
    ToolResult,
    UserMessage,
)

TASK = UserMessage(text="# Task\n" + "t" * 5000)


def reply(number: int, content: str = "") -> Reply:
    call = ToolCall(f"call-{number}", "write_file", {"path": "a.py", "content": content, "more": [content]})
    block = {"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}
    text = {"type": "text", "text": "I write. " * 100}
    return Reply((text, block), "I write.", (call,), Stop.TOOL_USE, "req")


def result(number: int, size: int) -> UserMessage:
    return UserMessage((ToolResult(f"call-{number}", f"start {'x' * size} end", number == 1),))


def conversation(*messages: UserMessage | Reply) -> Conversation:
    return Conversation("m", "s", (), messages)


def length(asked: Conversation) -> int:
    return sum(len(str(message)) for message in asked.messages)


def test_the_oldest_results_go_first_and_the_latest_stay() -> None:
    told = [each for n in range(10) for each in (reply(n), result(n, 20_000))]
    asked = conversation(TASK, *told)
    shorter = shortened(asked)
    assert shorter
    after = shorter.conversation
    assert 0.3 * length(asked) < length(after) < 0.6 * length(asked)
    changed = [at for at, message in enumerate(after.messages) if message != asked.messages[at]]
    assert changed == list(range(2, 2 + 2 * shorter.messages, 2))
    assert after.messages[:2] == asked.messages[:2]
    first = after.messages[2]
    assert isinstance(first, UserMessage)
    (cut,) = first.results
    assert (cut.call_id, cut.is_error) == ("call-0", False)
    assert cut.text.startswith("start xxx")
    assert cut.text.endswith("xxx end")
    assert "characters were taken out, as the conversation had grown too long" in cut.text


def test_every_call_keeps_its_result() -> None:
    asked = conversation(TASK, *(each for n in range(10) for each in (reply(n, "y" * 9000), result(n, 9000))))
    shorter = shortened(asked)
    while shorter:
        after, asked = shorter.conversation, shorter.conversation
        for before, told in zip(after.messages, after.messages[1:], strict=False):
            if isinstance(before, Reply):
                assert isinstance(told, UserMessage)
                assert [call.id for call in before.calls] == [each.call_id for each in told.results]
        shorter = shortened(asked)


def test_where_results_are_not_enough_what_old_calls_wrote_goes_too() -> None:
    asked = conversation(TASK, *(each for n in range(4) for each in (reply(n, "y" * 30_000), result(n, 900))))
    shorter = shortened(asked)
    assert shorter
    first = shorter.conversation.messages[1]
    assert isinstance(first, Reply)
    given = first.content[1]["input"]
    assert isinstance(given, dict)
    assert given["path"] == "a.py"
    assert len(given["content"]) < 1000
    assert len(given["more"][0]) < 1000
    assert first.calls[0].input["content"] == "y" * 30_000, "what was done is not rewritten"
    assert shorter.conversation.messages[-2] == asked.messages[-2]


def test_what_was_asked_for_just_now_goes_last() -> None:
    asked = conversation(
        TASK,
        *(each for n in range(10) for each in (reply(n, "y" * 9000), result(n, 2000 if n < 9 else 60_000))),
    )
    shorter = shortened(asked)
    assert shorter
    assert shorter.conversation.messages[-4:] == asked.messages[-4:]
    latest = shortened(conversation(TASK, reply(1), result(1, 60_000)))
    assert latest
    assert len(str(latest.conversation.messages[-1])) < 2000


def test_the_task_is_never_shortened_and_at_some_point_there_is_nothing_left() -> None:
    asked = conversation(TASK, reply(1), result(1, 100))
    assert shortened(asked) is None
    assert shortened(conversation(TASK)) is None


def test_it_ends() -> None:
    shorter = shortened(conversation(TASK, reply(1, "y" * 50_000), result(1, 50_000)))
    for _ in range(10):
        if shorter is None:
            return
        shorter = shortened(shorter.conversation)
    raise AssertionError("it can be shortened for ever")
