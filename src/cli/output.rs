//! Standard output. A reader that goes away (`dce … | head`) ends the command quietly.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Standard output, and whether its reader has gone away. Clones are the same.
#[derive(Debug, Clone)]
pub struct Output {
    closed: Arc<AtomicBool>,
}

impl Output {
    pub(super) fn new() -> Self {
        Self { closed: Arc::new(AtomicBool::new(false)) }
    }

    /// To write much: buffered. Flush it at the end; an error of a closed pipe is passed on as any other, and `main` keeps
    /// quiet about it.
    pub fn lock(&self) -> BufWriter<StandardOutput<'_>> {
        BufWriter::with_capacity(64 * 1024, StandardOutput { lock: io::stdout().lock(), closed: &self.closed })
    }

    /// One line now.
    pub fn line(&self, text: impl std::fmt::Display) -> io::Result<()> {
        let mut out = self.lock();
        writeln!(out, "{text}")?;
        out.flush()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Remembers that the reader went away, however the error is wrapped on its way to `main`.
#[derive(Debug)]
pub struct StandardOutput<'a> {
    lock: StdoutLock<'static>,
    closed: &'a AtomicBool,
}

impl StandardOutput<'_> {
    fn seen<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            self.closed.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl Write for StandardOutput<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.lock.write(bytes);
        self.seen(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.lock.flush();
        self.seen(flushed)
    }
}
