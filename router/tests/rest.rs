//! REST of a real router, over real sockets, against nodes that do what the test says.

#![allow(clippy::unwrap_used)]

mod fake;

use std::net::SocketAddr;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tertulia_shard_map::{ConversationId, EventId, MessageNo, Seq};
use tertulia_wire::{
    cluster::{Authority, GroupSize, InboxRow, Reader, Refusal},
    limits,
};
use tokio::net::TcpStream;

use fake::{
    Cluster,
    client::{http, token, user},
    node::Act,
};

const GROUP: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const API_KEY: &str = "tertulia_test";

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The code of the problem that it must be.
    #[track_caller]
    fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.body);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        let code = problem["code"].as_str().unwrap();
        assert_eq!(problem["type"], format!("/docs#{code}"));
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string() && problem["retryable"].is_boolean());
        code.to_owned()
    }

    #[track_caller]
    fn good(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.body);
        if self.body.is_empty() { Value::Null } else { self.json() }
    }
}

/// Who asks: a router, and what is shown to it.
struct Asker {
    address: SocketAddr,
    token: String,
}

impl Asker {
    async fn user(cluster: &Cluster, name: &str) -> Self {
        let address = cluster.router.address;
        Self { address, token: token(address, name).await }
    }

    fn app(cluster: &Cluster) -> Self {
        Self { address: cluster.router.address, token: API_KEY.into() }
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let authorization = format!("authorization: Bearer {}", self.token);
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        raw(self.address, method, path, &[&authorization, "content-type: application/json"], &body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None).await
    }
}

async fn raw(address: SocketAddr, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let lines: String = headers.iter().map(|line| format!("\r\n{line}")).collect();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\ncontent-length: {length}{lines}");
    let answer = http(address, &head, body).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

async fn cluster() -> Cluster {
    let hash: String = Sha256::digest(API_KEY).iter().map(|byte| format!("{byte:02x}")).collect();
    Cluster::start(&[&format!("auth.api_keys.test={hash}")]).await
}

fn text(temp_id: &str, content: &str) -> Option<Value> {
    Some(json!({ "temp_id": temp_id, "content": content }))
}

fn row(number: u128, last_at_ms: i64) -> InboxRow {
    let (seq, no) = (Seq::new(9), MessageNo::new(9));
    InboxRow {
        conversation: ConversationId::from_u128(number),
        peer: None,
        name: Some(format!("group {number}")),
        size: GroupSize::Small,
        joined_seq: Seq::new(1),
        left_seq: None,
        last_seq: seq,
        last_event_id: EventId::from_u128(number),
        last_at_ms,
        last_message_no: no,
        read_seq: Seq::new(7),
        read_message_no: MessageNo::new(7),
        others_delivered_seq: seq,
        others_read_seq: seq,
    }
}

#[tokio::test]
async fn a_message_is_sent_once_however_often_it_is_posted() {
    let (cluster, path) = (cluster().await, format!("/v1/conversations/{GROUP}/messages"));
    let node = cluster.node(1).await;
    let ana = Asker::user(&cluster, "ana").await;
    node.script([Act::Refuse(Refusal::NotServing)]);
    let first = ana.ask("POST", &path, text("t1", "hello")).await;
    let ack = first.good(201);
    assert_eq!(
        (&ack["temp_id"], &ack["message"]["content"], &ack["message"]["seq"]),
        (&json!("t1"), &json!("hello"), &json!(1))
    );
    assert_eq!(ack["message"]["sender_id"], user("ana").to_string());
    assert_eq!(ana.ask("POST", &path, text("t1", "hello")).await.good(201), ack);
    let direct = format!("/v1/users/{}/messages", user("bea"));
    assert_eq!(ana.ask("POST", &direct, text("t2", "psst")).await.good(201)["message"]["seq"], 2);
    let appends = node.memory().appends.clone();
    assert_eq!(appends.last().unwrap().direct_peer, Some(user("bea")));
    assert!(appends.iter().all(|append| append.authority == Authority::Member && append.origin.is_none()));
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_left_of_a_limit_is_in_the_headers_and_the_app_has_none() {
    let hash: String = Sha256::digest(API_KEY).iter().map(|byte| format!("{byte:02x}")).collect();
    let cluster =
        Cluster::start(&[&format!("auth.api_keys.test={hash}"), "limits.enabled=true", "limits.sends=2"]).await;
    let _node = cluster.node(1).await;
    let (ana, path) = (Asker::user(&cluster, "ana").await, format!("/v1/conversations/{GROUP}/messages"));
    for left in [1, 0] {
        let sent = ana.ask("POST", &path, text(&format!("t{left}"), "hi")).await;
        sent.good(201);
        assert_eq!(sent.header("ratelimit-policy"), Some("\"sends\";q=2;w=60"));
        assert!(sent.header("ratelimit").unwrap().starts_with(&format!("\"sends\";r={left};t=")), "{}", sent.head);
    }
    let refused = ana.ask("POST", &path, text("t2", "hi")).await;
    assert_eq!(refused.problem(429), "rate_limited");
    let wait = refused.json()["retry_after_ms"].as_u64().unwrap();
    assert!((50_000..=60_000).contains(&wait), "{wait}");
    assert_eq!(refused.header("retry-after"), Some(wait.div_ceil(1000).to_string().as_str()));
    assert!(refused.header("ratelimit").unwrap().starts_with("\"sends\";r=0;t="), "{}", refused.head);
    assert_eq!(ana.get("/v1/conversations").await.header("ratelimit"), None, "reading has no limit");

    let app = Asker::app(&cluster);
    for number in 0..4 {
        app.ask("POST", &format!("/v1/app/conversations/{GROUP}/messages"), text(&format!("a{number}"), "hi"))
            .await
            .good(201);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn every_user_command_has_its_request() {
    let cluster = cluster().await;
    let node = cluster.node(1).await;
    let ana = Asker::user(&cluster, "ana").await;
    let (group, event, bea) = (format!("/v1/conversations/{GROUP}"), EventId::from_u128(1), user("bea"));
    let once = Some(json!({ "temp_id": "t" }));
    let requests = [
        (
            "POST",
            "/v1/conversations".into(),
            Some(json!({ "temp_id": "a", "name": "us", "user_ids": [bea] })),
            201,
            "created",
        ),
        ("PATCH", group.clone(), Some(json!({ "temp_id": "b", "name": "we" })), 200, "renamed"),
        ("POST", format!("{group}/members"), Some(json!({ "temp_id": "c", "user_ids": [bea] })), 200, "joined"),
        (
            "PATCH",
            format!("{group}/members/{bea}"),
            Some(json!({ "temp_id": "d", "role": "admin" })),
            200,
            "role_changed",
        ),
        ("DELETE", format!("{group}/members/{bea}?temp_id=e"), None, 200, "left"),
        ("POST", format!("{group}/members/remove"), Some(json!({ "temp_id": "f", "user_ids": [bea] })), 200, "left"),
        ("PUT", format!("{group}/messages/{event}"), text("g", "better"), 200, "edit"),
        ("DELETE", format!("{group}/messages/{event}?temp_id=h"), None, 200, "delete"),
        (
            "POST",
            format!("{group}/messages/{event}/reactions"),
            Some(json!({ "temp_id": "i", "emoji": "👍" })),
            200,
            "reaction",
        ),
        ("POST", format!("{group}/leave"), once, 200, "left"),
    ];
    for (method, path, body, status, kind) in requests {
        assert_eq!(ana.ask(method, &path, body).await.good(status)["message"]["kind"], kind, "{method} {path}");
    }
    assert_eq!(ana.get(&group).await.good(200)["name"], "us");
    assert_eq!(ana.get(&format!("{group}/members?limit=5")).await.good(200)["members"][0]["role"], "member");
    assert_eq!(ana.get(&format!("{group}/messages?after_seq=0&limit=1")).await.good(200)["events"][0]["content"], "hi");
    let marked = ana.ask("PUT", &format!("{group}/read"), Some(json!({ "seq": 4 }))).await.good(200);
    assert_eq!(marked, json!({ "conversation_id": GROUP, "delivered_seq": 4, "read_seq": 4 }));
    let marked = ana.ask("PUT", &format!("{group}/delivered"), Some(json!({ "seq": 6 }))).await.good(200);
    assert_eq!(marked["delivered_seq"], 6);
    assert_eq!(ana.get("/v1/sync?rev=5").await.good(200)["rev"], 5);
    assert_eq!(ana.get("/v1/sync").await.good(200)["rev"], 0);

    ana.ask("PUT", &format!("/v1/blocks/{bea}"), None).await.good(204);
    assert_eq!(ana.get("/v1/blocks").await.good(200), json!({ "user_ids": [bea], "has_more": false }));
    ana.ask("DELETE", &format!("/v1/blocks/{bea}"), None).await.good(204);

    let users = ana.get(&format!("/v1/users?user_ids={bea},{}", user("ana"))).await.good(200);
    assert_eq!(users["users"].as_array().unwrap().len(), 2);
    assert_eq!(ana.get(&format!("/v1/users/{bea}")).await.good(200)["user_id"], bea.to_string());
    let changed = ana.ask("PATCH", "/v1/profile", Some(json!({ "name": "Ana María", "avatar_url": null }))).await;
    assert_eq!(changed.good(200)["name"], "Ana María");
    assert_eq!(ana.get("/v1/profile").await.good(200)["shares_presence"], true);
    node.memory().unknown.push(bea);
    assert_eq!(ana.get(&format!("/v1/users/{bea}")).await.problem(404), "not_found");
    assert!(node.memory().readers.iter().all(|reader| *reader == Reader::Member(user("ana"))));
    cluster.stop().await;
}

#[tokio::test]
async fn the_conversation_list_pages_over_ties_without_a_hole() {
    let cluster = cluster().await;
    let node = cluster.node(1).await;
    let ana = Asker::user(&cluster, "ana").await;
    node.memory().inbox = (1..=7).map(|number| row(number, if number < 3 { 50 } else { 40 })).collect();
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ana.get(&format!("/v1/conversations?limit=2{cursor}")).await.good(200);
        assert_eq!((&page["unread_total"], &page["pagination"]["limit"]), (&json!(5), &json!(2)));
        assert_eq!(page["conversations"][0]["unread"], 2);
        let ids = page["conversations"].as_array().unwrap().iter();
        found.extend(ids.map(|row| row["conversation_id"].as_str().unwrap().to_owned()));
        match page["pagination"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break assert_eq!(page["pagination"]["has_more"], false),
        }
    }
    let expected: Vec<String> = [2, 1, 7, 6, 5, 4, 3].map(|id| ConversationId::from_u128(id).to_string()).into();
    assert_eq!(found, expected);
    for (query, status) in [("cursor=x", 400), ("limit=0", 422), ("limit=201", 422), ("limit=x", 400), ("more=1", 400)]
    {
        assert_eq!(ana.get(&format!("/v1/conversations?{query}")).await.problem(status), "bad_request", "{query}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn who_is_not_known_gets_nothing_but_401() {
    let cluster = cluster().await;
    let _node = cluster.node(1).await;
    let ana = Asker::user(&cluster, "ana").await;
    let stranger = Asker { address: ana.address, token: "x.y.z".into() };
    for path in ["/v1/conversations", "/v1/conversations/nonsense", "/v1/app/conversations/nonsense"] {
        assert_eq!(stranger.get(path).await.problem(401), "unauthorized");
        let bare = raw(ana.address, "GET", path, &[], "").await;
        assert_eq!(bare.problem(401), "unauthorized");
        assert_eq!(bare.header("www-authenticate"), Some("Bearer"));
    }
    // A token is no key, and a key is no token.
    assert_eq!(ana.get(&format!("/v1/app/conversations/{GROUP}")).await.problem(401), "unauthorized");
    assert_eq!(Asker::app(&cluster).get("/v1/conversations").await.problem(401), "unauthorized");
    cluster.stop().await;
}

#[tokio::test]
async fn a_disabled_user_is_refused_and_an_unknown_one_is_signed_in() {
    let cluster = cluster().await;
    let node = cluster.node(1).await;
    let (ana, app) = (Asker::user(&cluster, "ana").await, Asker::app(&cluster));
    let path = format!("/v1/app/users/{}", user("ana"));
    ana.get("/v1/sync").await.good(200);
    assert_eq!(node.memory().attaches, 0, "whom the cluster knows is not signed in again");
    assert_eq!(app.ask("PATCH", &path, Some(json!({ "disabled": true }))).await.good(200)["disabled"], true);
    assert_eq!(ana.get("/v1/sync").await.problem(403), "forbidden");
    app.ask("PATCH", &path, Some(json!({ "disabled": false }))).await.good(200);
    ana.get("/v1/sync").await.good(200);

    node.memory().unknown.push(user("bea"));
    let bea = Asker::user(&cluster, "bea").await;
    bea.get("/v1/sync").await.good(200);
    assert_eq!(node.memory().attaches, 1);
    assert_eq!(node.memory().detached.len(), 1);
    cluster.stop().await;
}

#[tokio::test]
async fn the_app_speaks_for_itself_and_for_its_users() {
    let cluster = cluster().await;
    let node = cluster.node(1).await;
    let (app, bot) = (Asker::app(&cluster), user("bot"));
    let group = format!("/v1/app/conversations/{GROUP}");
    let own = app.ask("POST", &format!("{group}/messages"), text("a", "maintenance at noon")).await.good(201);
    assert_eq!(own["message"]["sender_id"], "0".repeat(26));
    let as_bot = app.ask("POST", &format!("{group}/messages?as_user={bot}"), text("b", "beep")).await.good(201);
    assert_eq!(as_bot["message"]["sender_id"], bot.to_string());
    let direct = format!("/v1/app/users/{}/messages?as_user={bot}", user("ana"));
    app.ask("POST", &direct, text("c", "beep, Ana")).await.good(201);
    let create = Some(json!({ "temp_id": "d", "name": "team", "user_ids": [user("ana")] }));
    app.ask("POST", &format!("/v1/app/conversations?as_user={bot}"), create).await.good(201);
    let users = || Some(json!({ "temp_id": "e", "user_ids": [user("ana")] }));
    app.ask("POST", &format!("{group}/members"), users()).await.good(200);
    app.ask(
        "POST",
        &format!("{group}/members/remove?as_user={bot}"),
        Some(json!({ "temp_id": "f", "user_ids": [bot] })),
    )
    .await
    .good(200);
    app.ask("DELETE", &format!("{group}/members/{bot}?temp_id=g"), None).await.good(200);
    app.ask("PATCH", &format!("{group}/members/{bot}"), Some(json!({ "temp_id": "h", "role": "owner" })))
        .await
        .good(200);
    app.ask("PATCH", &group, Some(json!({ "temp_id": "i", "name": "new" }))).await.good(200);
    app.ask("DELETE", &format!("{group}/messages/{}?temp_id=j", EventId::from_u128(1)), None).await.good(200);
    assert!(node.memory().appends.iter().all(|append| append.authority == Authority::App));

    app.get(&group).await.good(200);
    app.get(&format!("{group}/members")).await.good(200);
    app.get(&format!("{group}/messages")).await.good(200);
    assert!(node.memory().readers.iter().all(|reader| *reader == Reader::App));

    let ana = format!("/v1/app/users/{}", user("ana"));
    let change = json!({ "name": "Ana", "avatar_url": "https://example.org/a.png", "shares_presence": false });
    let changed = app.ask("PATCH", &ana, Some(change)).await.good(200);
    assert_eq!((&changed["name"], &changed["disabled"]), (&json!("Ana"), &json!(false)));
    assert_eq!(app.get(&ana).await.good(200), changed);
    assert_eq!(app.ask("PATCH", &ana, Some(json!({ "avatar_url": "javascript:" }))).await.problem(422), "bad_request");
    cluster.stop().await;
}

#[tokio::test]
async fn whatever_is_wrong_is_a_problem() {
    let cluster = cluster().await;
    let node = cluster.node(1).await;
    let ana = Asker::user(&cluster, "ana").await;
    let messages = format!("/v1/conversations/{GROUP}/messages");
    let bearer = format!("authorization: Bearer {}", ana.token);
    let post = async |content_type: &str, body: &str| {
        raw(ana.address, "POST", &messages, &[&bearer, &format!("content-type: {content_type}")], body).await
    };
    const JSON: &str = "application/json";
    for body in ["{", "[]", "null", "", r#"{"temp_id":1}"#, r#"{"temp_id":"t","more":1}"#, r#"["t","x"]"#] {
        assert_eq!(post(JSON, body).await.problem(400), "bad_request", "{body}");
    }
    let long = json!({ "temp_id": "x".repeat(65), "content": "x" }).to_string();
    let refused = post(JSON, &long).await;
    assert_eq!(refused.problem(422), "bad_request");
    assert!(refused.json()["detail"].as_str().unwrap().starts_with("`temp_id`"), "{}", refused.body);
    assert_eq!(post("text/plain", r#"{"temp_id":"t"}"#).await.problem(415), "bad_request");
    let huge = json!({ "temp_id": "t", "content": "x".repeat(limits::CLIENT_FRAME_BYTES) }).to_string();
    assert_eq!(post(JSON, &huge).await.problem(413), "bad_request");

    assert_eq!(ana.get("/v1/conversations/nonsense").await.problem(400), "bad_request");
    assert_eq!(ana.get("/v1/users/7ZZZZZZZZZZZZZZZZZZZZZZZZZ").await.problem(400), "bad_request");
    assert_eq!(ana.get("/v1/users?user_ids=").await.problem(400), "bad_request");
    assert_eq!(ana.get(&format!("{messages}?after_seq=1&before_seq=2")).await.problem(422), "bad_request");
    for path in ["/v1", "/v1/", "/v1/nothing", "/v1/conversations/", "/v1/app"] {
        assert_eq!(ana.get(path).await.problem(404), "unknown_type", "{path}");
    }
    let wrong = ana.ask("DELETE", "/v1/conversations", None).await;
    assert_eq!(wrong.problem(405), "unknown_type");
    assert_eq!(wrong.header("allow"), Some("GET,HEAD,POST"));

    for (refusal, status, code) in [
        (Refusal::NotFound, 404, "not_found"),
        (Refusal::Conflict, 409, "conflict"),
        (Refusal::Blocked, 403, "blocked"),
        (Refusal::NotAllowed("no".into()), 403, "forbidden"),
        (Refusal::NoChange("so".into()), 409, "no_change"),
        (Refusal::LimitReached("full".into()), 409, "limit_reached"),
        (Refusal::Invalid("bad".into()), 422, "bad_request"),
        (Refusal::Internal, 500, "internal"),
    ] {
        node.script([Act::Refuse(refusal)]);
        assert_eq!(ana.ask("POST", &messages, text("t", "x")).await.problem(status), code);
    }
    node.script([Act::Refuse(Refusal::Overloaded { retry_after_ms: 2500 })]);
    let overloaded = ana.ask("POST", &messages, text("t", "x")).await;
    assert_eq!(overloaded.problem(429), "overloaded");
    assert_eq!((overloaded.header("retry-after"), &overloaded.json()["retry_after_ms"]), (Some("3"), &json!(2500)));
    cluster.stop().await;
}

#[tokio::test]
async fn a_request_is_held_for_a_while_and_then_unavailable() {
    let hash: String = Sha256::digest(API_KEY).iter().map(|byte| format!("{byte:02x}")).collect();
    let cluster = Cluster::start(&["router.hold_ms=300", &format!("auth.api_keys.test={hash}")]).await;
    let answer = Asker::app(&cluster).get(&format!("/v1/app/conversations/{GROUP}")).await;
    assert_eq!(answer.problem(503), "unavailable");
    assert_eq!((answer.header("retry-after"), &answer.json()["retryable"]), (Some("1"), &json!(true)));
    cluster.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let cluster = cluster().await;
    let _node = cluster.node(1).await;
    let ana = Asker::user(&cluster, "ana").await;
    let head = format!("POST /v1/conversations HTTP/1.1\r\ncontent-length: 9\r\nauthorization: Bearer {}", ana.token);
    let answer = http(ana.address, &head, "{").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains(r#""retryable":true"#), "{answer}");
    // Nor does one that is cut off do any harm.
    drop(TcpStream::connect(ana.address).await.unwrap());
    ana.get("/v1/sync").await.good(200);
    cluster.stop().await;
}

#[tokio::test]
async fn a_user_has_so_many_requests_at_once() {
    let cluster = cluster().await;
    let node = cluster.node(1).await;
    let ana = Asker::user(&cluster, "ana").await;
    let bea = Asker::user(&cluster, "bea").await;
    let path = format!("/v1/conversations/{GROUP}/messages");
    ana.get("/v1/sync").await.good(200);
    node.script((0..32).map(|_| Act::Hang));
    let hanging = tokio::spawn({
        let (address, token, path) = (ana.address, ana.token.clone(), path.clone());
        async move {
            let ana = Asker { address, token };
            futures_util::future::join_all((0..32).map(|n| ana.ask("POST", &path, text(&format!("h{n}"), "x")))).await
        }
    });
    node.until("all hang", |memory| memory.appends.len() == 32).await;
    assert_eq!(ana.get("/v1/sync").await.problem(429), "overloaded");
    bea.get("/v1/sync").await.good(200);
    for answer in hanging.await.unwrap() {
        assert_eq!(answer.problem(503), "unavailable");
    }
    ana.get("/v1/sync").await.good(200);
    cluster.stop().await;
}

#[tokio::test]
async fn the_document_and_the_reference_page_are_served() {
    let cluster = cluster().await;
    let address = cluster.router.address;
    let document = raw(address, "GET", "/v1/openapi.json", &[], "").await.good(200);
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/v1/conversations/{conversation_id}/messages"]["post"].is_object());
    let page = raw(address, "GET", "/docs", &[], "").await;
    assert_eq!(page.status, 200);
    for asset in ["/docs/reference.js", "/docs/reference.css"] {
        assert!(page.body.contains(asset));
        assert_eq!(raw(address, "GET", asset, &[], "").await.status, 200);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_trace_is_carried_along_and_named_in_the_answer() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let cluster = cluster().await;
    let node = cluster.node(1).await;
    let ana = Asker::user(&cluster, "ana").await;
    let headers = [&format!("authorization: Bearer {}", ana.token), &format!("x-trace-id: {TRACE}")];
    let answer = raw(ana.address, "GET", "/v1/sync", &headers.map(String::as_str), "").await;
    assert_eq!((answer.header("x-trace-id"), answer.header("cache-control")), (Some(TRACE), Some("no-store")));
    assert!(node.memory().traces.contains(&TRACE.parse().unwrap()));
    cluster.stop().await;
}
