//! Whatever bytes come, the decoder says what they are or what is wrong: no panic, and no more memory than bytes that
//! came.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, Read};

use ff_ipi::{Error, Geometry, Outcome, Reply, Request, Shape, message};
use proptest::prelude::*;

/// Counts the largest piece of memory that this thread asked for.
struct Counting;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all is passed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Gives bytes in pieces, as a network does.
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes.next().copied().unwrap_or(1).min(to.len()).min(self.bytes.len());
        to[..size].copy_from_slice(&self.bytes[..size]);
        self.bytes = &self.bytes[size..];
        Ok(size)
    }
}

fn geometry(atoms: usize) -> impl Strategy<Value = Geometry> {
    let x = -1e3..1e3;
    let cell = prop::array::uniform3(prop::array::uniform3(x.clone()));
    let positions = prop::collection::vec(prop::array::uniform3(x), atoms);
    (cell, positions).prop_map(|(cell, positions)| Geometry { cell, positions })
}

fn outcome(atoms: usize) -> impl Strategy<Value = Outcome> {
    (geometry(atoms), -1e6..1e6).prop_map(|(Geometry { cell, positions }, energy)| Outcome {
        energy,
        forces: positions,
        virial: cell,
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    (0..6_usize, 1..5_usize).prop_map(|(atoms, batch)| Shape { atoms, batch })
}

/// Messages of both sides as bytes, sound and broken, with a shape to read them in.
fn conversations() -> impl Strategy<Value = (Shape, Vec<u8>)> {
    shape().prop_flat_map(|shape| {
        let Shape { atoms, batch } = shape;
        let request = prop_oneof![
            Just(Request::Status),
            (any::<i32>(), ".{0,20}").prop_map(|(replica, text)| Request::Init { replica, text }),
            prop::collection::vec(geometry(atoms), batch).prop_map(Request::Positions),
            Just(Request::Forces),
            Just(Request::Exit),
        ];
        let sound = prop::collection::vec(request, 0..4).prop_map(|requests| {
            let mut bytes = Vec::new();
            requests.iter().for_each(|request| request.write(&mut bytes).expect("to memory"));
            bytes
        });
        let header = prop::sample::select(&["POSDATA     ", "INIT        ", "FORCEREADY  ", "GETFORCE    "][..]);
        let noise = (header, prop::collection::vec(any::<u8>(), 0..400))
            .prop_map(|(header, noise)| [header.as_bytes(), &noise].concat());
        let bytes = prop_oneof![sound, noise, prop::collection::vec(any::<u8>(), 0..400)];
        let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
        (Just(shape), bytes, changes).prop_map(|(shape, mut bytes, changes)| {
            for (at, byte) in changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            (shape, bytes)
        })
    })
}

fn agree(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-12 * b.abs())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn anything_is_read_to_its_end_or_refused((shape, bytes) in conversations(), sizes in prop::collection::vec(1..40_usize, 1..5)) {
        let sizes = || sizes.iter().cycle();
        LARGEST.set(0);
        let mut pieces = Pieces { bytes: &bytes, sizes: sizes() };
        // Each message has at least a header, so this ends.
        let mut left = bytes.len();
        let refusal = loop {
            match Request::read(&mut pieces, shape) {
                Ok(None) => break None,
                Ok(Some(Request::Init { text, .. })) => { let _ = message::batch(&text, shape.atoms); }
                Ok(Some(_)) => {}
                Err(error) => break Some(error),
            }
            prop_assert!(pieces.bytes.len() + message::HEADER <= left);
            left = pieces.bytes.len();
        };
        match refusal {
            None => prop_assert!(pieces.bytes.is_empty()),
            Some(error) => prop_assert!(!error.to_string().is_empty() && !matches!(error, Error::Io(_) | Error::Stopped)),
        }
        let _ = Reply::read(&mut Pieces { bytes: &bytes, sizes: sizes() }, shape);
        // A text is at most a megabyte, and is waited for in one piece.
        prop_assert!(LARGEST.get() <= message::MOST_TEXT + 4096, "{} bytes", LARGEST.get());
    }

    #[test]
    fn what_is_written_is_read(
        (shape, geometries, outcomes) in shape().prop_flat_map(|shape| (
            Just(shape),
            prop::collection::vec(geometry(shape.atoms), shape.batch),
            prop::collection::vec(outcome(shape.atoms), shape.batch),
        )),
        sizes in prop::collection::vec(1..40_usize, 1..5),
    ) {
        let mut bytes = Vec::new();
        Request::Positions(geometries.clone()).write(&mut bytes).expect("to memory");
        let read = Request::read(&mut Pieces { bytes: &bytes, sizes: sizes.iter().cycle() }, shape).expect("a message");
        let Some(Request::Positions(read)) = read else { panic!("{read:?}") };
        prop_assert_eq!(read.len(), geometries.len());
        for (a, b) in read.iter().zip(&geometries) {
            prop_assert!(agree(a.cell.as_flattened(), b.cell.as_flattened()));
            prop_assert!(agree(a.positions.as_flattened(), b.positions.as_flattened()));
        }

        let mut bytes = Vec::new();
        Reply::Forces(outcomes.clone()).write(&mut bytes).expect("to memory");
        let read = Reply::read(&mut Pieces { bytes: &bytes, sizes: sizes.iter().cycle() }, shape).expect("a message");
        let Some(Reply::Forces(read)) = read else { panic!("{read:?}") };
        prop_assert_eq!(read.len(), outcomes.len());
        for (a, b) in read.iter().zip(&outcomes) {
            prop_assert!(agree(&[a.energy], &[b.energy]));
            prop_assert!(agree(a.forces.as_flattened(), b.forces.as_flattened()));
            prop_assert!(agree(a.virial.as_flattened(), b.virial.as_flattened()));
        }
    }
}

/// A batch of gigabytes that is announced and does not come.
#[test]
fn memory_follows_what_has_come() {
    let shape = Shape { atoms: 1 << 22, batch: 4 };
    let mut bytes = b"POSDATA     ".to_vec();
    bytes.extend((1_i32 << 22).to_ne_bytes());
    bytes.extend([0; 8 * 18 * 4]);
    bytes.extend([0; 24 * 1000]);
    LARGEST.set(0);
    let error = Request::read(&mut &bytes[..], shape).expect_err("too few bytes").to_string();
    assert_eq!(error, format!("the connection ended in POSDATA: expected 402653764 bytes, found {}", bytes.len() - 12));
    assert!(LARGEST.get() <= 1 << 18, "{} bytes", LARGEST.get());
}
