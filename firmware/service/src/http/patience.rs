//! A connection that must take what it is sent: whoever takes nothing keeps no place.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Taking less than so many bytes is taking nothing: one byte now and then would do for ever.
const PROGRESS: usize = 4 << 10;

/// What the answer of a connection is like.
#[derive(Debug, Clone, Default)]
pub(super) struct Endless(Arc<AtomicBool>);

impl Endless {
    /// From now on the answer has no end, so its time begins anew as it is taken.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream whose writes end with an error when the other side takes too long.
///
/// Writing begins with the first bytes after a flush and ends with the next flush, which whoever
/// writes does when all it had is written.
pub(super) struct Patient<S> {
    stream: S,
    patience: Duration,
    endless: Endless,
    /// Since when something waits to be taken.
    since: Option<Instant>,
    /// Bytes taken since then.
    taken: usize,
    /// There while the other side takes nothing.
    due: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, patience: Duration, endless: Endless) -> Self {
        Self { stream, patience, endless, since: None, taken: 0, due: None }
    }

    fn look(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let since = *self.since.get_or_insert_with(Instant::now);
        match written {
            Poll::Ready(Ok(count)) => {
                self.due = None;
                self.taken += count;
                if self.endless.is_set() && self.taken >= PROGRESS {
                    self.since = None;
                    self.taken = 0;
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(error) => Poll::Ready(error),
            Poll::Pending => {
                let patience = self.patience;
                let due = self.due.get_or_insert_with(|| Box::pin(sleep_until(since + patience)));
                due.as_mut().poll(context).map(|()| Err(ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.look(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.look(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            (self.since, self.taken, self.due) = (None, 0, None);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// What becomes of `chunks` of 1000 bytes, each flushed, while the other side does as it likes.
    fn sent<F: Future<Output = ()> + Send + 'static>(
        chunks: usize,
        endless: bool,
        other: impl FnOnce(DuplexStream) -> F,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (near, far) = duplex(500);
            let mode = Endless::default();
            if endless {
                mode.set();
            }
            let mut stream = Patient::new(near, Duration::from_millis(200), mode);
            tokio::spawn(other(far));
            for _ in 0..chunks {
                stream.write_all(&[b'x'; 1000]).await?;
                stream.flush().await?;
            }
            Ok(())
        })
    }

    /// Takes so many bytes, and again after each pause.
    async fn taking(mut stream: DuplexStream, bytes: usize, pause: Duration) {
        let mut buffer = vec![0; bytes];
        while stream.read_exact(&mut buffer).await.is_ok() {
            tokio::time::sleep(pause).await;
        }
    }

    #[test]
    fn who_takes_nothing_is_given_up_and_who_takes_all_is_not() {
        let nothing = |stream: DuplexStream| async move {
            tokio::time::sleep(Duration::from_mins(1)).await;
            drop(stream);
        };
        for endless in [false, true] {
            assert_eq!(sent(1, endless, nothing).unwrap_err().kind(), ErrorKind::TimedOut);
            sent(100, endless, |stream| taking(stream, 1000, Duration::ZERO)).unwrap();
        }
    }

    #[test]
    fn a_byte_now_and_then_is_nothing() {
        for endless in [false, true] {
            let result = sent(100, endless, |stream| taking(stream, 1, Duration::from_millis(20)));
            assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut, "{endless}");
        }
    }
}
