//! The terminal: an alternate screen, which is left as it was found however this ends. What is known of escape sequences
//! is here and in `draw`.

use std::io::{self, Write as _};

/// Alternate screen, no cursor, no wrapping of long lines.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const TOP_LEFT: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
/// Where the terminal does not say: the smallest there is.
const LINES: usize = 24;

/// The alternate screen, for as long as it lives.
pub struct Screen;

impl Screen {
    pub fn enter() -> io::Result<Self> {
        write(ENTER)?;
        Ok(Self)
    }

    /// The height of the terminal, now.
    pub fn lines(&self) -> usize {
        match rustix::termios::tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_row > 0 => size.ws_row.into(),
            Ok(_) | Err(_) => LINES,
        }
    }

    /// In one write, over what is there, so that nothing flickers.
    pub fn show(&self, lines: &[String]) -> io::Result<()> {
        // No line break after the last: it would scroll.
        let body = lines.join(&format!("{CLEAR_LINE}\r\n"));
        write(&format!("{TOP_LEFT}{body}{CLEAR_LINE}{CLEAR_BELOW}"))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = write(LEAVE);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
