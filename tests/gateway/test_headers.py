from gateway.headers import forwarded, without

CLIENT = (
    (b"accept", b"application/json"),
    (b"authorization", b"Bearer sk-client"),
    (b"cookie", b"c=1"),
    (b"openai-organization", b"org"),
    (b"x-stainless-lang", b"python"),
    (b"x-stillhouse-task", b"triage"),
    (b"x-stillhouse-key", b"sh-secret"),
    (b"proxy-authorization", b"Basic x"),
    (b"content-length", b"3"),
    (b"host", b"gateway"),
    (b"te", b"trailers"),
    (b"accept", b"*/*"),
)


def test_the_clients_own_credentials_go_to_their_upstream() -> None:
    assert forwarded(CLIENT, credentials=True) == (
        (b"accept", b"application/json"),
        (b"authorization", b"Bearer sk-client"),
        (b"cookie", b"c=1"),
        (b"openai-organization", b"org"),
        (b"x-stainless-lang", b"python"),
        (b"accept", b"*/*"),
    )


def test_no_credential_of_the_client_goes_anywhere_else() -> None:
    kept = forwarded(CLIENT, ((b"authorization", b"Bearer ours"),), credentials=False)
    assert kept == (
        (b"accept", b"application/json"),
        (b"x-stainless-lang", b"python"),
        (b"accept", b"*/*"),
        (b"authorization", b"Bearer ours"),
    )


def test_headers_that_connection_names_end_here() -> None:
    headers = ((b"connection", b"keep-alive, X-Hop"), (b"x-hop", b"1"), (b"x-end", b"2"))
    assert forwarded(headers, credentials=True) == ((b"x-end", b"2"),)


def test_without() -> None:
    assert without(CLIENT[:3], b"cookie", b"accept") == (CLIENT[1],)
