//! What a case is.

use std::time::Duration;

use crate::frame::{self, Frame};

/// One row of the suite.
#[derive(Debug, Clone)]
pub struct Case {
    /// The suite's own number.
    pub id: String,
    pub send: Vec<Step>,
    /// What is to come back, in this order, and nothing else.
    pub expect: Vec<Event>,
    pub end: End,
}

#[derive(Debug, Clone)]
pub enum Step {
    Frame(Frame),
    /// Bytes that are no whole frame.
    Bytes(Vec<u8>),
    /// Nothing is wrong yet: the connection has to outlast this.
    Wait(Duration),
    /// Something is wrong: a server that has found out by then is strict, one that finds out later is not.
    WaitForEnd(Duration),
}

impl From<Frame> for Step {
    fn from(frame: Frame) -> Self {
        Self::Frame(frame)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The message is answered: by itself, where the server echoes.
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
}

/// How the connection ends. In each case the server ends the TCP connection, without resetting it.
#[derive(Debug, Clone)]
pub enum End {
    /// After everything else, by a close frame of ours that the server answers in kind.
    ByUs,
    /// By a close frame that is among what was sent, and is answered with one of these codes (0: without a code).
    Answered(Vec<u16>),
    /// By the server, which says one of these codes.
    Failed(Vec<u16>),
}

/// How a case went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// As the RFC has it, but later than it could be.
    NotStrict,
    Failed(String),
}

impl Case {
    /// Whether it sends binary messages, for which a session wants another subprotocol than for text.
    pub fn is_binary(&self) -> bool {
        self.send.iter().any(|step| matches!(step, Step::Frame(Frame { opcode: frame::BINARY, .. })))
    }
}

pub fn text(payload: impl AsRef<[u8]>) -> Event {
    Event::Text(payload.as_ref().to_vec())
}

pub fn binary(payload: impl AsRef<[u8]>) -> Event {
    Event::Binary(payload.as_ref().to_vec())
}

pub fn pong(payload: impl AsRef<[u8]>) -> Event {
    Event::Pong(payload.as_ref().to_vec())
}
