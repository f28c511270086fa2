//! Frames as bytes, right or wrong.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// A server that sends more in one frame has failed.
const RECEIVED_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A frame to be sent, of which nothing is checked.
#[derive(Debug, Clone)]
pub struct Frame {
    pub fin: bool,
    pub rsv: u8,
    pub opcode: u8,
    pub payload: Vec<u8>,
    pub masked: bool,
    /// In how many bytes at a time it is sent; `None`: together with its neighbours.
    pub chop: Option<usize>,
}

pub fn frame(opcode: u8, payload: impl AsRef<[u8]>) -> Frame {
    Frame { fin: true, rsv: 0, opcode, payload: payload.as_ref().to_vec(), masked: true, chop: None }
}

impl Frame {
    /// With more fragments to come.
    pub fn unfinished(self) -> Self {
        Self { fin: false, ..self }
    }

    pub fn rsv(self, rsv: u8) -> Self {
        Self { rsv, ..self }
    }

    pub fn chopped(self, bytes: usize) -> Self {
        Self { chop: Some(bytes), ..self }
    }

    /// In a write of its own.
    pub fn alone(self) -> Self {
        self.chopped(usize::MAX)
    }

    pub fn unmasked(self) -> Self {
        Self { masked: false, ..self }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.fin) << 7 | self.rsv << 4 | self.opcode];
        let mask_bit = u8::from(self.masked) << 7;
        match self.payload.len() {
            length @ 0..126 => bytes.push(mask_bit | length as u8),
            length @ 126..65_536 => {
                bytes.push(mask_bit | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(mask_bit | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if self.masked {
            bytes.extend(MASK);
            bytes.extend(self.payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }
}

/// A close frame's payload.
pub fn close_payload(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_ref()].concat()
}

/// A frame that a server has sent; masks and reserved bits are no server's to set.
#[derive(Debug)]
pub struct Received {
    pub fin: bool,
    pub opcode: u8,
    pub payload: Vec<u8>,
}

/// One end of a WebSocket, by hand.
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Makes the handshake. `Err` where it is refused.
    pub async fn open(mut stream: TcpStream, subprotocol: &str) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /v1/ws HTTP/1.1\r\nHost: conformance\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head);
        let accepted = head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        if accepted { Ok(Self { stream }) } else { Err(io::Error::other(format!("the handshake was refused: {head}"))) }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Waits until something has come, or the end.
    pub async fn readable(&self) -> io::Result<()> {
        self.stream.peek(&mut [0]).await.map(drop)
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn read(&mut self) -> io::Result<Option<Received>> {
        let first = match self.stream.read_u8().await {
            Ok(byte) => byte,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let second = self.stream.read_u8().await?;
        let length = match second & 0x7f {
            126 => self.stream.read_u16().await?.into(),
            127 => self.stream.read_u64().await?,
            length => length.into(),
        };
        if first & 0x70 != 0 || second & 0x80 != 0 || length > RECEIVED_BYTES_MAX {
            return Err(io::Error::other(format!("a frame that begins {first:#04x} {second:#04x}, of {length} bytes")));
        }
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await?;
        Ok(Some(Received { fin: first & 0x80 != 0, opcode: first & 0x0f, payload }))
    }
}
