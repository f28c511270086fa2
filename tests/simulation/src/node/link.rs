//! A lane's connection to its store.

use crate::store::Token;

#[derive(Debug, Default)]
pub struct Link {
    pub token: Token,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Shut,
    Opening,
    Open,
}

/// What is to be asked next, where a batch is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Open,
    Write,
    Wait,
}

impl Link {
    pub fn next(&mut self) -> Next {
        match self.state {
            State::Open => Next::Write,
            State::Opening => Next::Wait,
            State::Shut => {
                self.token.0 += 1;
                self.state = State::Opening;
                Next::Open
            }
        }
    }

    pub fn opened(&mut self) {
        self.state = State::Open;
    }

    /// After an unknown outcome: whatever the old connection still has on its way is refused once a new one is open.
    pub fn shut(&mut self) {
        self.state = State::Shut;
    }
}
