from client.streams import Message, lines, messages


def test_lines_end_at_line_feeds_alone():
    assert list(lines(["a\r\nb\u2028", "c\n", "\nrest"])) == ["a", "b\u2028c", ""]


def test_messages_have_id_event_and_data():
    stream = [
        ": a comment",
        "id: 7",
        "event: epoch",
        "data: one",
        "data:two",
        "",
        "data: three",
        "",
        "event: empty",
        "",
    ]
    assert list(messages(stream)) == [Message("7", "epoch", "one\ntwo"), Message("7", "message", "three")]


def test_a_message_that_is_cut_off_is_none():
    assert list(messages(["id: 1", "data: half"])) == []
