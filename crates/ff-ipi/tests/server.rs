//! Conversations with servers that are played here, over pairs of sockets.
#![cfg(unix)]

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ff_ipi::units::{BOHR, HARTREE};
use ff_ipi::{Ended, Endpoint, Error, Geometry, Outcome, Reply, Request, ServeError, Shape, serve};

/// Lattice vectors a, b, c as rows in Å, lower triangular as i-PI wants them.
const CELL: [[f64; 3]; 3] = [[5.0, 0.0, 0.0], [1.5, 6.0, 0.0], [-0.5, 2.5, 7.0]];

type Served = Result<Ended, ServeError<&'static str>>;

fn geometry(shift: f64) -> Geometry {
    Geometry { cell: CELL, positions: vec![[shift, 0.5, -0.25], [1.0, 2.0, 1e3 * shift]] }
}

/// What the client in these tests computes: numbers in which every input has its place.
fn outcome(geometry: &Geometry) -> Outcome {
    Outcome {
        energy: geometry.positions[0][0] - 7.0,
        forces: geometry.positions.iter().map(|x| [x[1], x[2], -x[0]]).collect(),
        virial: geometry.cell,
    }
}

/// Plays a server against a client of two atoms; what the client ended with, and how many structures it computed.
fn conversation(server: impl FnOnce(UnixStream)) -> (Served, usize) {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let client = thread::spawn(move || {
        let mut computed = 0;
        let done = serve(&mut ours, 2, |geometries| {
            computed += geometries.len();
            Ok(geometries.iter().map(outcome).collect())
        });
        (done, computed)
    });
    server(theirs);
    client.join().expect("no panic")
}

fn send(server: &mut UnixStream, request: Request) {
    request.write(server).expect("a client that listens");
}

fn ask(server: &mut UnixStream, request: Request, batch: usize) -> Reply {
    send(server, request);
    Reply::read(server, Shape { atoms: 2, batch }).expect("an answer").expect("no end")
}

fn init(text: &str) -> Request {
    Request::Init { replica: 3, text: text.to_owned() }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-14 * b.abs().max(1.0)
}

#[track_caller]
fn assert_close(found: &Outcome, expected: &Outcome) {
    let all = |o: &Outcome| [&[o.energy][..], o.forces.as_flattened(), o.virial.as_flattened()].concat();
    let (found, expected) = (all(found), all(expected));
    assert!(
        found.len() == expected.len() && found.iter().zip(&expected).all(|(a, b)| close(*a, *b)),
        "{found:?} is not {expected:?}"
    );
}

#[test]
fn two_steps_as_ipi_takes_them() {
    let (done, computed) = conversation(|mut server| {
        assert_eq!(ask(&mut server, Request::Status, 1), Reply::NeedInit);
        send(&mut server, init("{'a': 1}"));
        for shift in [0.125, -2.0] {
            assert_eq!(ask(&mut server, Request::Status, 1), Reply::Ready);
            send(&mut server, Request::Positions(vec![geometry(shift)]));
            assert_eq!(ask(&mut server, Request::Status, 1), Reply::HaveData);
            let Reply::Forces(outcomes) = ask(&mut server, Request::Forces, 1) else { panic!("expected forces") };
            assert_eq!(outcomes.len(), 1);
            assert_close(&outcomes[0], &outcome(&geometry(shift)));
        }
        send(&mut server, Request::Exit);
    });
    assert_eq!((done.expect("a good end"), computed), (Ended::Exit, 2));
}

/// Byte by byte, since a codec that transposes twice agrees with itself.
#[test]
fn cells_and_virials_are_sent_with_vectors_as_columns() {
    let (done, _) = conversation(|mut server| {
        let columns: Vec<f64> = (0..9).map(|k| CELL[k % 3][k / 3] / BOHR).collect();
        let mut bytes = b"POSDATA     ".to_vec();
        bytes.extend(columns.iter().flat_map(|x| x.to_ne_bytes()));
        // Whatever the inverse is, it is not used.
        bytes.extend([f64::NAN; 9].iter().flat_map(|x| x.to_ne_bytes()));
        bytes.extend(2_i32.to_ne_bytes());
        bytes.extend([0.5, 1.5, -2.5, 3.5, 4.5, 5.5_f64].iter().flat_map(|x| x.to_ne_bytes()));
        bytes.extend(b"GETFORCE    ");
        server.write_all(&bytes).expect("a client that listens");
        let mut answer = vec![0; 12 + 8 + 4 + 48 + 72 + 4];
        server.read_exact(&mut answer).expect("forces");
        assert_eq!(&answer[..12], b"FORCEREADY  ");
        let number = |at: usize| f64::from_ne_bytes(answer[at..at + 8].try_into().expect("eight bytes"));
        assert!(close(number(12), (0.5 * BOHR - 7.0) / HARTREE));
        assert_eq!(answer[20..24], 2_i32.to_ne_bytes());
        assert!(close(number(24), 1.5 * BOHR * BOHR / HARTREE), "the first force is the second coordinate");
        // The virial is the cell here: sent as it came.
        for (k, column) in columns.iter().enumerate() {
            assert!(close(number(72 + 8 * k), column * BOHR / HARTREE), "component {k} of the virial");
        }
        assert_eq!(answer[144..], 0_i32.to_ne_bytes());
        send(&mut server, Request::Exit);
    });
    assert_eq!(done.expect("a good end"), Ended::Exit);
}

#[test]
fn a_batch_is_computed_once_and_its_filling_not() {
    let (done, computed) = conversation(|mut server| {
        send(&mut server, init("{'a': 1}, batch_size:4"));
        let batch = [0.0, 1.0, 2.0, 2.0].map(geometry).to_vec();
        send(&mut server, Request::Positions(batch.clone()));
        let Reply::Forces(outcomes) = ask(&mut server, Request::Forces, 4) else { panic!("expected forces") };
        assert_eq!(outcomes.len(), 4);
        for (found, geometry) in outcomes.iter().zip(&batch) {
            assert_close(found, &outcome(geometry));
        }
        assert_eq!(ask(&mut server, Request::Status, 4), Reply::Ready);
        send(&mut server, Request::Exit);
    });
    assert_eq!((done.expect("a good end"), computed), (Ended::Exit, 3));
}

#[test]
fn a_server_that_leaves_between_steps_has_ended_and_elsewhere_is_lost() {
    let (done, _) = conversation(|mut server| {
        ask(&mut server, Request::Status, 1);
    });
    assert_eq!(done.expect("a good end"), Ended::Closed);

    let (done, _) = conversation(|mut server| send(&mut server, Request::Positions(vec![geometry(0.0)])));
    let error = done.expect_err("forces that nobody took").to_string();
    assert_eq!(error, "the connection ended between POSDATA and GETFORCE: the forces were not taken");

    let mut whole = Vec::new();
    init("batch_size:2").write(&mut whole).expect("to memory");
    Request::Positions(vec![geometry(0.0), geometry(1.0)]).write(&mut whole).expect("to memory");
    // From 1: of nothing it would have ended well. A message that is whole has its own ends.
    let ends = [12 + 8 + 12, whole.len()];
    for length in (1..whole.len()).filter(|length| !ends.contains(length)) {
        let (done, computed) = conversation(|mut server| server.write_all(&whole[..length]).expect("written"));
        match done {
            Err(ServeError::Protocol(error @ Error::Truncated { expected, found, .. })) => {
                assert!(error.is_lost() && found < expected && computed == 0, "{length}: {error}");
            }
            other => panic!("{length} bytes: {other:?}"),
        }
    }
}

#[track_caller]
fn refused(bytes: &[u8], words: &str) {
    let (done, computed) = conversation(|mut server| {
        // The client may be gone before it has read all.
        let _ = server.write_all(bytes);
    });
    let Err(ServeError::Protocol(error)) = done else { panic!("expected `{words}`, found {done:?}") };
    assert!(!error.is_lost() && computed == 0, "{error}");
    assert_eq!(error.to_string(), words);
}

#[test]
fn what_may_not_be_sent_is_refused_by_name() {
    let written = |request: &Request| {
        let mut bytes = Vec::new();
        request.write(&mut bytes).expect("to memory");
        bytes
    };
    let headers = "expected one of STATUS, INIT, POSDATA, GETFORCE, EXIT";
    refused(b"HELLO       ", &format!("unknown header `HELLO       `, {headers}"));
    refused(b"status      ", &format!("unknown header `status      `, {headers}"));
    refused(b"\x00\xffPOSDATA    ", &format!("unknown header `\\x00\\xffPOSDATA   `, {headers}"));
    refused(b"GETFORCE    ", "GETFORCE came without POSDATA before it");

    let mut other = geometry(0.0);
    other.positions.push([0.0; 3]);
    refused(&written(&Request::Positions(vec![other])), "POSDATA has 3 atoms, expected 2");
    for atoms in [-1, i32::MAX] {
        let mut bytes = written(&Request::Positions(vec![geometry(0.0)]));
        bytes[156..160].copy_from_slice(&i32::to_ne_bytes(atoms));
        refused(&bytes, &format!("POSDATA has {atoms} atoms, expected 2"));
    }
    for length in [-1, i32::MAX] {
        let bytes = [b"INIT        ".to_vec(), vec![0; 4], length.to_ne_bytes().to_vec()].concat();
        refused(&bytes, &format!("INIT has a text of {length} bytes, expected 0 to 1048576"));
    }
    for size in ["0", "-1", "two", "", "99999999999999999999", "8388609"] {
        let words = format!(
            "INIT asks for `batch_size:{size}` of 2 atoms, expected 1 or more and at most 16777216 atoms in all"
        );
        refused(&written(&init(&format!("a:1, batch_size: {size} "))), &words);
    }
    let mut broken = geometry(0.0);
    broken.positions[1][2] = f64::NAN;
    refused(
        &written(&Request::Positions(vec![broken])),
        "POSDATA: the position of atom 1 of structure 0 is not finite",
    );
    let mut broken = geometry(0.0);
    broken.cell[1][0] = f64::INFINITY;
    refused(&written(&Request::Positions(vec![broken])), "POSDATA: the cell of structure 0 is not finite");

    // What i-PI sends where positions go through shared memory: shorter than other positions, and not waited for.
    let segment = b"ipi_shm_4711_7_pos";
    let length = segment.len() as i32;
    let bytes =
        [b"POSDATA     ".to_vec(), 2_i32.to_ne_bytes().to_vec(), length.to_ne_bytes().to_vec(), segment.to_vec()]
            .concat();
    refused(
        &bytes,
        "the server sends positions through shared memory: expected its mode `unix` or `inet`, found `shm`",
    );
}

#[test]
fn what_cannot_be_computed_ends_the_conversation() {
    let (mut ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    let client = thread::spawn(move || serve(&mut ours, 2, |_| Err("no such element")));
    send(&mut theirs, Request::Positions(vec![geometry(0.0)]));
    let done = client.join().expect("no panic");
    assert!(matches!(done, Err(ServeError::Evaluation("no such element"))), "{done:?}");
}

#[test]
fn addresses_are_read_and_shown() {
    assert_eq!(Endpoint::unix("water").to_string(), "/tmp/ipi_water");
    assert_eq!(Endpoint::unix("/run/water").to_string(), "/run/water");
    for good in ["localhost:31415", "[::1]:1", "10.0.0.1:65535"] {
        assert_eq!(good.parse::<Endpoint>().expect("an address").to_string(), good);
    }
    for bad in ["localhost", ":31415", "localhost:", "localhost:0", "localhost:65536", "localhost:http"] {
        let error = bad.parse::<Endpoint>().expect_err(bad).to_string();
        assert_eq!(error, format!("expected HOST:PORT, such as localhost:31415, found `{bad}`"));
    }
}

/// One step over a real socket, with a server that comes late.
fn late(endpoint: &Endpoint, listen: impl FnOnce() -> Box<dyn Conversation> + Send) {
    let never = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(250));
            let mut server = listen();
            Request::Positions(vec![geometry(0.5)]).write(&mut server).expect("written");
            // Longer than the client's own timeout, which must not be seen.
            thread::sleep(Duration::from_millis(250));
            Request::Forces.write(&mut server).expect("written");
            let reply = Reply::read(&mut server, Shape { atoms: 2, batch: 1 }).expect("an answer");
            assert!(matches!(reply, Some(Reply::Forces(_))), "{reply:?}");
            Request::Exit.write(&mut server).expect("written");
        });
        let mut socket = endpoint.connect(Duration::from_secs(10), &never).expect("a server");
        let evaluate = |all: &[Geometry]| Ok::<_, Infallible>(all.iter().map(outcome).collect());
        assert_eq!(serve(&mut socket, 2, evaluate).expect("a good end"), Ended::Exit);
    });
}

trait Conversation: Read + Write {}
impl<T: Read + Write> Conversation for T {}

#[test]
fn a_server_is_waited_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("socket");
    late(&Endpoint::unix(path.to_str().expect("a path")), || {
        Box::new(UnixListener::bind(&path).expect("a socket").accept().expect("a client").0)
    });

    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    late(&address.to_string().parse().expect("an address"), || {
        Box::new(TcpListener::bind(address).expect("the port").accept().expect("a client").0)
    });
}

#[test]
fn nobody_is_waited_for_no_longer_than_asked_and_a_stop_is_heard() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("socket");
    let endpoint = Endpoint::unix(path.to_str().expect("a path"));
    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    let error = endpoint.connect(Duration::from_millis(300), &stop).err().expect("nobody").to_string();
    assert!(error.starts_with(&format!("cannot connect to {}: ", path.display())), "{error}");
    assert!(begin.elapsed() >= Duration::from_millis(300) && begin.elapsed() < Duration::from_secs(5));

    // While it waits for a server, and while it waits for a message of one.
    let raised = |socket: bool| {
        stop.store(false, Ordering::Relaxed);
        let listener = socket.then(|| UnixListener::bind(&path).expect("a socket"));
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(150));
                stop.store(true, Ordering::Relaxed);
            });
            let ended = endpoint.connect(Duration::from_secs(30), &stop).map_err(ServeError::Protocol);
            let ended = ended.and_then(|mut socket| serve(&mut socket, 2, |_| Err::<Vec<Outcome>, _>("not asked")));
            assert!(matches!(ended, Err(ServeError::Protocol(Error::Stopped))), "{ended:?}");
        });
        drop(listener);
    };
    raised(false);
    raised(true);
}

/// A connection that is closed with something unread is reset, and i-PI ends where it is.
#[test]
fn a_client_that_stops_leaves_no_broken_connection() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let stop = AtomicBool::new(false);
    let endpoint = Endpoint::unix(path.to_str().expect("a path"));
    let mut socket = endpoint.connect(Duration::ZERO, &stop).expect("a server");
    let mut server = listener.accept().expect("a client").0;
    send(&mut server, Request::Positions(vec![geometry(0.0)]));
    send(&mut server, Request::Forces);
    let ended = serve(&mut socket, 2, |all| {
        stop.store(true, Ordering::Relaxed);
        Ok::<_, Infallible>(all.iter().map(outcome).collect())
    });
    assert!(matches!(ended, Err(ServeError::Protocol(Error::Stopped))), "{ended:?}");
    drop(socket);
    assert_eq!(server.read(&mut [0; 12]).expect("an end and no reset"), 0);
}
