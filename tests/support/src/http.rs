//! Just enough HTTP/1.1 for health checks, metrics, the development sign-in and REST.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const LIMIT: Duration = Duration::from_secs(5);
/// A router holds what it cannot do yet, and answers within its own 15 s.
const HELD_LIMIT: Duration = Duration::from_secs(16);

#[derive(Debug, Clone)]
pub struct HttpResponse {
    pub status: u16,
    /// The header lines, without the status line.
    pub head: String,
    pub body: String,
}

impl HttpResponse {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.body))
    }

    /// By lower- or upper-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value.trim()))
    }
}

/// One request on a connection of its own. `Err` where nobody answers.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    json_body: Option<&str>,
) -> std::io::Result<HttpResponse> {
    tokio::time::timeout(LIMIT, exchange(address, "", method, path, json_body))
        .await
        .map_err(|_| std::io::ErrorKind::TimedOut)?
}

/// The same with a bearer token, for what a router may have to hold.
pub async fn authorized(
    address: SocketAddr,
    token: &str,
    method: &str,
    path: &str,
    json_body: Option<&str>,
) -> std::io::Result<HttpResponse> {
    let header = format!("Authorization: Bearer {token}\r\n");
    tokio::time::timeout(HELD_LIMIT, exchange(address, &header, method, path, json_body))
        .await
        .map_err(|_| std::io::ErrorKind::TimedOut)?
}

/// `headers` are whole lines.
async fn exchange(
    address: SocketAddr,
    headers: &str,
    method: &str,
    path: &str,
    json_body: Option<&str>,
) -> std::io::Result<HttpResponse> {
    let mut stream = TcpStream::connect(address).await?;
    let body = json_body.unwrap_or_default();
    let content_type = if json_body.is_some() { "Content-Type: application/json\r\n" } else { "" };
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}{content_type}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    parse(&answer).ok_or_else(|| std::io::Error::other("the answer is not HTTP"))
}

fn parse(answer: &[u8]) -> Option<HttpResponse> {
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..split]).ok()?;
    let (status_line, head) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = status_line.split(' ').nth(1)?.parse().ok()?;
    let mut response = HttpResponse { status, head: head.to_owned(), body: String::new() };
    let body = &answer[split + 4..];
    let chunked = response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let body = if chunked { unchunk(body)? } else { body.to_vec() };
    response.body = String::from_utf8_lossy(&body).into_owned();
    Some(response)
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line_end]).ok()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let chunk = rest.get(line_end + 2..line_end + 2 + size)?;
        body.extend_from_slice(chunk);
        rest = rest.get(line_end + 2 + size + 2..)?;
    }
}
