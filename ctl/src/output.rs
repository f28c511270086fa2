//! Results on standard output.

use std::{
    io::{self, BufWriter, Write},
    ops::ControlFlow,
};

use anyhow::Context as _;

/// Writes a result. A reader that has seen enough (`tertuliactl map | head`) is no failure.
pub fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
    print_on(write).map(drop)
}

/// Writes one of several results: there is no use in the next one where the reader has seen enough.
pub fn print_on(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<ControlFlow<()>> {
    print_to(io::stdout().lock(), write).context("cannot write to standard output")
}

/// A number with one digit behind the point, for programs.
pub fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// `1,234,567`
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn print_to(target: impl Write, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<ControlFlow<()>> {
    let mut buffered = BufWriter::new(target);
    let written = write(&mut buffered).and_then(|()| buffered.flush());
    // What could not be written is not to be tried again when the buffer goes.
    let _ = buffered.into_parts();
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(error),
        Ok(()) => Ok(ControlFlow::Continue(())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure_and_a_full_disk_is() {
        let line = |out: &mut dyn Write| writeln!(out, "a line");
        assert!(print_to(Failing(io::ErrorKind::BrokenPipe), line).unwrap().is_break());
        assert_eq!(print_to(Failing(io::ErrorKind::StorageFull), line).unwrap_err().kind(), io::ErrorKind::StorageFull);
        let mut written = Vec::new();
        assert!(print_to(&mut written, line).unwrap().is_continue());
        assert_eq!(written, b"a line\n");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
