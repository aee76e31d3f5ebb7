//! Where servers are, and how one is waited for.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Stop};

/// How i-PI's and ASE's sockets begin in the file system.
const PREFIX: &str = "/tmp/ipi_";

/// How often it is asked whether to stop, and how long it is waited between two attempts to connect.
const TICK: Duration = Duration::from_millis(100);

/// How long a host that does not answer is waited for at once.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `host:port`.
    Tcp(String),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// An address without a host or a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected HOST:PORT, such as localhost:31415, found `{0}`")]
pub struct NoAddress(String);

/// Reads `host:port`.
impl FromStr for Endpoint {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let whole = |(host, port): &(&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
        let found = text.rsplit_once(':').filter(whole);
        found.map(|_| Self::Tcp(text.to_owned())).ok_or_else(|| NoAddress(text.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Endpoint {
    /// The socket that i-PI and ASE have for a name, `/tmp/ipi_NAME`; what begins with `/` is a path already.
    pub fn unix(name: &str) -> Self {
        Self::Unix(if name.starts_with('/') { name.into() } else { format!("{PREFIX}{name}").into() })
    }

    /// Connects to the server, which is waited for while nobody answers there. At least one attempt is made.
    ///
    /// # Errors
    /// [`Error::Connect`] where none came in time, or none ever will; [`Error::Stopped`].
    pub fn connect<'a>(&self, wait: Duration, stop: &'a AtomicBool) -> Result<Socket<'a>, Error> {
        let begin = Instant::now();
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            match self.attempt() {
                Ok(stream) => return Ok(Socket { stream, stop }),
                Err(error) if is_absence(error.kind()) && begin.elapsed() < wait => std::thread::sleep(TICK),
                Err(source) => return Err(Error::Connect { endpoint: self.to_string(), source }),
            }
        }
    }

    fn attempt(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(address) => {
                let mut failure = io::Error::new(ErrorKind::AddrNotAvailable, "the host has no address");
                for address in address.to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, ATTEMPT) {
                        // A port that nobody listens on may be given to whoever looks for it: it would find itself.
                        Ok(stream) if stream.local_addr()? == stream.peer_addr()? => {
                            failure = ErrorKind::ConnectionRefused.into();
                        }
                        Ok(stream) => {
                            // Messages are small, and answers are waited for.
                            stream.set_nodelay(true)?;
                            stream.set_read_timeout(Some(TICK))?;
                            stream.set_write_timeout(Some(TICK))?;
                            return Ok(Stream::Tcp(stream));
                        }
                        Err(error) => failure = error,
                    }
                }
                Err(failure)
            }
            #[cfg(unix)]
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(TICK))?;
                stream.set_write_timeout(Some(TICK))?;
                Ok(Stream::Unix(stream))
            }
            #[cfg(not(unix))]
            Self::Unix(_) => Err(io::Error::new(ErrorKind::Unsupported, "this system has no Unix sockets")),
        }
    }
}

/// Whether nobody is there now, and somebody may be later.
fn is_absence(kind: ErrorKind) -> bool {
    use ErrorKind as K;
    matches!(
        kind,
        K::NotFound
            | K::ConnectionRefused
            | K::ConnectionReset
            | K::ConnectionAborted
            | K::TimedOut
            | K::WouldBlock
            | K::HostUnreachable
            | K::NetworkUnreachable
    )
}

enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.read(bytes),
        }
    }
}

/// A connection that waits for its server, and ends with an error once it is told to stop.
pub struct Socket<'a> {
    stream: Stream,
    stop: &'a AtomicBool,
}

impl Socket<'_> {
    fn patiently(&mut self, mut call: impl FnMut(&mut Stream) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match call(&mut self.stream) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                done => return done,
            }
            self.go_on()?;
        }
    }

    fn go_on(&self) -> io::Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(io::Error::other(Stop)) } else { Ok(()) }
    }
}

impl Read for Socket<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.go_on()?;
        self.patiently(|stream| stream.read(bytes))
    }
}

/// What was begun is sent to its end, even after a stop, as long as the server takes it.
impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.patiently(|stream| match stream {
            Stream::Tcp(stream) => stream.write(bytes),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.write(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.flush(),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.flush(),
        }
    }
}

/// Closed with something unread, a connection is reset, which ends i-PI 3.3 where it waits for forces; read to its end,
/// it is over, and the server asks another client.
impl Drop for Socket<'_> {
    fn drop(&mut self) {
        let quick = match &self.stream {
            Stream::Tcp(stream) => stream.set_nonblocking(true),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.set_nonblocking(true),
        };
        let mut rest = [0; 4096];
        if quick.is_ok() {
            // A server that sends without end is not listened to without end.
            for _ in 0..1024 {
                if !matches!(self.stream.read(&mut rest), Ok(1..)) {
                    break;
                }
            }
        }
    }
}
