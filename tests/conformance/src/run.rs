//! Runs a case on a connection, and judges.

use std::{io, net::SocketAddr, time::Duration};

use tertulia_wire::client::{Format, decode_outbound};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    Server,
    case::{Case, End, Event, Step, Verdict},
    frame::{BINARY, CLOSE, CONTINUATION, Connection, PING, PONG, Received, TEXT, close_payload, frame},
};

/// A case that takes longer has failed.
const WITHIN: Duration = Duration::from_secs(10);
const NORMAL: u16 = 1000;

pub async fn run(server: Server, address: SocketAddr, case: &Case) -> Verdict {
    match timeout(WITHIN, attempt(server, address, case)).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) => Verdict::Failed(error.to_string()),
        Err(_) => Verdict::Failed(format!("it did not end within {WITHIN:?}")),
    }
}

async fn attempt(server: Server, address: SocketAddr, case: &Case) -> io::Result<Verdict> {
    let format = if case.is_binary() { Format::MessagePack } else { Format::Json };
    let stream = TcpStream::connect(address).await?;
    let mut connection = Connection::open(stream, format.subprotocol()).await?;
    let mut heard = Heard { server, format, events: Vec::new(), message: None, close: None, ended: false };
    let late = send(&mut connection, &case.send).await?;
    if matches!(case.end, End::ByUs) {
        while heard.events.len() < case.expect.len() && !heard.ended {
            heard.next(&mut connection).await?;
        }
        connection.write(&frame(CLOSE, close_payload(NORMAL, "")).encode()).await?;
    }
    while !heard.ended {
        heard.next(&mut connection).await?;
    }
    Ok(judge(server, case, &heard, late))
}

/// Sends all of it; whether anything had to be sent after a pause, for the server had not ended the connection in it.
async fn send(connection: &mut Connection, steps: &[Step]) -> io::Result<bool> {
    let mut together = Vec::new();
    let mut late = false;
    for step in steps {
        match step {
            Step::Frame(frame) => match frame.chop {
                None => together.extend(frame.encode()),
                Some(bytes) => {
                    connection.write(&std::mem::take(&mut together)).await?;
                    for chop in frame.encode().chunks(bytes) {
                        connection.write(chop).await?;
                        tokio::task::yield_now().await;
                    }
                }
            },
            Step::Bytes(bytes) => together.extend(bytes),
            Step::Wait(time) => {
                connection.write(&std::mem::take(&mut together)).await?;
                sleep(*time).await;
            }
            Step::WaitForEnd(time) => {
                connection.write(&std::mem::take(&mut together)).await?;
                // No frame is cut in two by this: those that came are read, and another is not begun.
                match timeout(*time, connection.readable()).await {
                    Ok(readable) => return readable.map(|()| late),
                    Err(_) => late = true,
                }
            }
        }
    }
    connection.write(&together).await?;
    Ok(late)
}

/// What has come from the server.
struct Heard {
    server: Server,
    format: Format,
    events: Vec<Event>,
    /// A fragmented one that is not whole yet.
    message: Option<(u8, Vec<u8>)>,
    /// The close frame's code, 0 where it has none.
    close: Option<u16>,
    ended: bool,
}

impl Heard {
    async fn next(&mut self, connection: &mut Connection) -> io::Result<()> {
        let Some(received) = connection.read().await? else {
            self.ended = true;
            return Ok(());
        };
        if self.close.is_some() {
            return Err(io::Error::other(format!("after the close frame came {received:?}")));
        }
        let Received { fin, opcode, payload } = received;
        match opcode {
            TEXT | BINARY | CONTINUATION => {
                let (kind, mut whole) = match self.message.take() {
                    Some(begun) if opcode == CONTINUATION => begun,
                    None if opcode != CONTINUATION => (opcode, Vec::new()),
                    _ => return Err(io::Error::other("fragments of a message out of order")),
                };
                whole.extend(payload);
                if fin { self.message(kind, whole)? } else { self.message = Some((kind, whole)) }
            }
            PONG => self.events.push(Event::Pong(payload)),
            PING => {}
            CLOSE => {
                let code = payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
                self.close = Some(code);
            }
            other => return Err(io::Error::other(format!("a frame of the kind {other}"))),
        }
        Ok(())
    }

    fn message(&mut self, kind: u8, payload: Vec<u8>) -> io::Result<()> {
        let event = if kind == TEXT { Event::Text } else { Event::Binary };
        match self.server {
            Server::Echo => self.events.push(event(payload)),
            Server::Session => {
                // One frame may answer several commands.
                let replies =
                    decode_outbound(self.format, &payload).map_err(|error| io::Error::other(format!("{error:?}")))?;
                self.events.extend(replies.iter().map(|_| event(Vec::new())));
            }
        }
        Ok(())
    }
}

fn judge(server: Server, case: &Case, heard: &Heard, late: bool) -> Verdict {
    // A session's replies are counted, not compared.
    let comparable = |event: &Event| match (server, event) {
        (Server::Session, Event::Text(_)) => Event::Text(Vec::new()),
        (Server::Session, Event::Binary(_)) => Event::Binary(Vec::new()),
        (_, event) => event.clone(),
    };
    let expected: Vec<Event> = case.expect.iter().map(comparable).collect();
    if heard.events != expected {
        return Verdict::Failed(format!("want {}, got {}", brief(&expected), brief(&heard.events)));
    }
    let allowed: &[u16] = match &case.end {
        End::ByUs => &[NORMAL],
        End::Answered(codes) | End::Failed(codes) => codes,
    };
    match heard.close {
        None => Verdict::Failed("the connection ended without a close frame".to_owned()),
        Some(code) if !allowed.contains(&code) => {
            Verdict::Failed(format!("close code {code}, want one of {allowed:?}"))
        }
        Some(_) if late && matches!(case.end, End::Failed(_)) => Verdict::NotStrict,
        Some(_) => Verdict::Passed,
    }
}

fn brief(events: &[Event]) -> String {
    let text = format!("{events:?}");
    text.chars().take(200).collect()
}
