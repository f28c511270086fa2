//! Results on standard output.

use std::io::{self, BufWriter, Write};

use anyhow::Context as _;

/// Writes a result. A reader that has seen enough (`tertuliactl map | head`) is no failure.
pub fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
    print_to(io::stdout().lock(), write).context("cannot write to standard output")
}

fn print_to(target: impl Write, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut buffered = BufWriter::new(target);
    let written = write(&mut buffered).and_then(|()| buffered.flush());
    // What could not be written is not to be tried again when the buffer goes.
    let _ = buffered.into_parts();
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
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
        assert!(print_to(Failing(io::ErrorKind::BrokenPipe), line).is_ok());
        assert_eq!(print_to(Failing(io::ErrorKind::StorageFull), line).unwrap_err().kind(), io::ErrorKind::StorageFull);
        let mut written = Vec::new();
        print_to(&mut written, line).unwrap();
        assert_eq!(written, b"a line\n");
    }
}
