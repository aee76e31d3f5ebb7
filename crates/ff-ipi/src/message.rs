//! The messages, as they are read and written.
//!
//! Each begins with a header of twelve bytes, padded with spaces. Numbers are in the byte order of the machine, lengths
//! in Bohr and energies in Hartree; b structures of n atoms are sent at once, b being 1 unless INIT's text has
//! `batch_size:b`.
//!
//! | header | then | says |
//! | --- | --- | --- |
//! | `STATUS` | | how are you? |
//! | `INIT` | i32 replica, i32 length, text | what follows is for this replica, with these parameters |
//! | `POSDATA` | 9 f64 cell, 9 f64 inverse, i32 n, 3n f64; of a batch i32 n, b × 18 f64, b × 3n f64 | compute this |
//! | `GETFORCE` | | give what was computed |
//! | `EXIT` | | it is over |
//! | `NEEDINIT`, `READY`, `HAVEDATA` | | answers to `STATUS` |
//! | `FORCEREADY` | b f64 energies, i32 n, b × 3n f64 forces, b × 9 f64 virials, b × (i32 length, text) | the answer to `GETFORCE` |
//!
//! Matrices are sent row by row and have lattice vectors as columns. The inverse is not read: ASE sends that of the
//! transposed cell.

use std::io::{self, Read, Write};

use crate::error::Error;
use crate::units::{BOHR, HARTREE};

/// Bytes of a header.
pub const HEADER: usize = 12;

/// Bytes of a text that is read; i-PI's parameters are some hundred.
pub const MOST_TEXT: usize = 1 << 20;

/// Atoms of a batch, all structures together: 400 MB of positions.
pub const MOST_ATOMS: usize = 1 << 24;

/// Numbers that are read at once: memory grows with what has come, not with what was announced.
const CHUNK: usize = 1 << 12;

/// How the names of i-PI's segments of shared memory begin.
const SEGMENT: &[u8] = b"ipi_shm_";

/// What messages have to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Atoms of a structure, n.
    pub atoms: usize,
    /// Structures of a message, b.
    pub batch: usize,
}

/// Where atoms are, in Å.
#[derive(Clone, Debug, PartialEq)]
pub struct Geometry {
    /// Lattice vectors as rows.
    pub cell: [[f64; 3]; 3],
    /// Positions, `[n_atoms]`.
    pub positions: Vec<[f64; 3]>,
}

/// What was computed of a [`Geometry`].
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Energy in eV.
    pub energy: f64,
    /// Forces in eV/Å, `[n_atoms]`.
    pub forces: Vec<[f64; 3]>,
    /// −∂E/∂ε in eV: the stress (tension positive) times the volume, with the other sign.
    pub virial: [[f64; 3]; 3],
}

/// What a server says.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// `STATUS`.
    Status,
    /// `INIT`.
    Init {
        /// The replica that positions will be of.
        replica: i32,
        /// Parameters, as the server writes them.
        text: String,
    },
    /// `POSDATA`.
    Positions(Vec<Geometry>),
    /// `GETFORCE`.
    Forces,
    /// `EXIT`.
    Exit,
}

/// What a client answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `NEEDINIT`.
    NeedInit,
    /// `READY`.
    Ready,
    /// `HAVEDATA`.
    HaveData,
    /// `FORCEREADY`.
    Forces(Vec<Outcome>),
}

impl Request {
    /// Reads the next message; none where the connection ended before it.
    ///
    /// # Errors
    /// A message that ends too early, one that is unknown, and one of another shape.
    pub fn read(from: &mut impl Read, shape: Shape) -> Result<Option<Self>, Error> {
        let Some(header) = header(from)? else { return Ok(None) };
        Ok(Some(match header.trim_ascii_end() {
            b"STATUS" => Self::Status,
            b"INIT" => init(from)?,
            b"POSDATA" => Self::Positions(positions(from, shape)?),
            b"GETFORCE" => Self::Forces,
            b"EXIT" => Self::Exit,
            _ => return Err(unknown(&header, "STATUS, INIT, POSDATA, GETFORCE, EXIT")),
        }))
    }

    /// Writes it in one piece, as a server does.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut bytes = Vec::new();
        match self {
            Self::Status => put_header(&mut bytes, "STATUS"),
            Self::Init { replica, text } => {
                put_header(&mut bytes, "INIT");
                bytes.extend(replica.to_ne_bytes());
                bytes.extend((text.len() as i32).to_ne_bytes());
                bytes.extend(text.as_bytes());
            }
            Self::Positions(geometries) => {
                put_header(&mut bytes, "POSDATA");
                let n_atoms = geometries.first().map_or(0, |geometry| geometry.positions.len()) as i32;
                if geometries.len() > 1 {
                    bytes.extend(n_atoms.to_ne_bytes());
                }
                for Geometry { cell, .. } in geometries {
                    put_matrix(&mut bytes, *cell, 1.0 / BOHR);
                    put_matrix(&mut bytes, inverse(*cell), BOHR);
                }
                if geometries.len() == 1 {
                    bytes.extend(n_atoms.to_ne_bytes());
                }
                for Geometry { positions, .. } in geometries {
                    put_vectors(&mut bytes, positions, 1.0 / BOHR);
                }
            }
            Self::Forces => put_header(&mut bytes, "GETFORCE"),
            Self::Exit => put_header(&mut bytes, "EXIT"),
        }
        to.write_all(&bytes)?;
        to.flush()
    }
}

impl Reply {
    /// Reads the next answer; none where the connection ended before it.
    ///
    /// # Errors
    /// An answer that ends too early, one that is unknown, and one of another shape.
    pub fn read(from: &mut impl Read, shape: Shape) -> Result<Option<Self>, Error> {
        let Some(header) = header(from)? else { return Ok(None) };
        Ok(Some(match header.trim_ascii_end() {
            b"NEEDINIT" => Self::NeedInit,
            b"READY" => Self::Ready,
            b"HAVEDATA" => Self::HaveData,
            b"FORCEREADY" => Self::Forces(outcomes(from, shape)?),
            _ => return Err(unknown(&header, "NEEDINIT, READY, HAVEDATA, FORCEREADY")),
        }))
    }

    /// Writes it in one piece: i-PI takes a header that comes in two for a client that is gone.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut bytes = Vec::new();
        match self {
            Self::NeedInit => put_header(&mut bytes, "NEEDINIT"),
            Self::Ready => put_header(&mut bytes, "READY"),
            Self::HaveData => put_header(&mut bytes, "HAVEDATA"),
            Self::Forces(outcomes) => {
                put_header(&mut bytes, "FORCEREADY");
                for Outcome { energy, .. } in outcomes {
                    bytes.extend((energy / HARTREE).to_ne_bytes());
                }
                let n_atoms = outcomes.first().map_or(0, |outcome| outcome.forces.len()) as i32;
                bytes.extend(n_atoms.to_ne_bytes());
                for Outcome { forces, .. } in outcomes {
                    put_vectors(&mut bytes, forces, BOHR / HARTREE);
                }
                for Outcome { virial, .. } in outcomes {
                    put_matrix(&mut bytes, *virial, 1.0 / HARTREE);
                }
                for _ in outcomes {
                    bytes.extend(0_i32.to_ne_bytes());
                }
            }
        }
        to.write_all(&bytes)?;
        to.flush()
    }
}

/// The size of the batches that INIT announces among its parameters, separated by commas.
///
/// # Errors
/// One that is no number, not positive or too large.
pub fn batch(text: &str, atoms: usize) -> Result<usize, Error> {
    let parameters = text.split(',').filter_map(|part| part.split_once(':'));
    let Some((_, size)) = parameters.rev().find(|(key, _)| key.trim() == "batch_size") else { return Ok(1) };
    let found = size.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let fits = |batch: &usize| *batch >= 1 && batch.saturating_mul(atoms.max(1)) <= MOST_ATOMS;
    found.parse().ok().filter(fits).ok_or_else(|| Error::Batch { found: found.to_owned(), atoms })
}

/// The next header; none where nothing comes any more.
fn header(from: &mut impl Read) -> Result<Option<[u8; HEADER]>, Error> {
    let mut bytes = [0; HEADER];
    match fill(from, &mut bytes)? {
        0 => Ok(None),
        HEADER => Ok(Some(bytes)),
        found => Err(Error::Truncated { what: "a header", expected: HEADER, found }),
    }
}

fn unknown(header: &[u8], expected: &'static str) -> Error {
    Error::Header { found: header.escape_ascii().to_string(), expected }
}

/// As many bytes as there are, at most all.
fn fill(from: &mut impl Read, bytes: &mut [u8]) -> Result<usize, Error> {
    let mut found = 0;
    while found < bytes.len() {
        match from.read(&mut bytes[found..]) {
            Ok(0) => break,
            Ok(more) => found += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// What follows a header, counted.
struct Body<'a, R> {
    from: &'a mut R,
    what: &'static str,
    expected: usize,
    found: usize,
}

impl<'a, R: Read> Body<'a, R> {
    fn new(from: &'a mut R, what: &'static str, expected: usize) -> Self {
        Self { from, what, expected, found: 0 }
    }

    fn bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        let found = fill(self.from, bytes)?;
        self.found += found;
        if found < bytes.len() {
            return Err(Error::Truncated { what: self.what, expected: self.expected, found: self.found });
        }
        Ok(())
    }

    fn integer(&mut self) -> Result<i32, Error> {
        let mut bytes = [0; 4];
        self.bytes(&mut bytes)?;
        Ok(i32::from_ne_bytes(bytes))
    }

    /// The number of atoms, which has to be that of the template.
    fn atoms(&mut self, expected: usize) -> Result<(), Error> {
        let found = self.integer()?;
        if usize::try_from(found) != Ok(expected) {
            return Err(Error::Atoms { what: self.what, found, expected });
        }
        Ok(())
    }

    fn number(&mut self) -> Result<f64, Error> {
        let mut bytes = [0; 8];
        self.bytes(&mut bytes)?;
        Ok(f64::from_ne_bytes(bytes))
    }

    /// A matrix whose columns become rows.
    fn matrix(&mut self, unit: f64) -> Result<[[f64; 3]; 3], Error> {
        let mut matrix = [[0.0; 3]; 3];
        for row in 0..3 {
            for column in &mut matrix {
                column[row] = self.number()? * unit;
            }
        }
        Ok(matrix)
    }

    fn vectors(&mut self, n: usize, unit: f64) -> Result<Vec<[f64; 3]>, Error> {
        let mut vectors = Vec::new();
        let mut bytes = vec![0; 24 * n.min(CHUNK)];
        while vectors.len() < n {
            let bytes = &mut bytes[..24 * (n - vectors.len()).min(CHUNK)];
            self.bytes(bytes)?;
            vectors.extend(bytes.chunks_exact(24).map(|vector| {
                std::array::from_fn(|k| {
                    let mut number = [0; 8];
                    number.copy_from_slice(&vector[8 * k..8 * (k + 1)]);
                    f64::from_ne_bytes(number) * unit
                })
            }));
        }
        Ok(vectors)
    }

    /// A text; what is not UTF-8 in it is replaced.
    fn text(&mut self) -> Result<String, Error> {
        let found = self.integer()?;
        let length = usize::try_from(found).ok().filter(|length| *length <= MOST_TEXT);
        let length = length.ok_or(Error::Text { what: self.what, found })?;
        self.expected = self.found + length;
        let mut bytes = vec![0; length];
        self.bytes(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn init(from: &mut impl Read) -> Result<Request, Error> {
    let mut body = Body::new(from, "INIT", 8);
    Ok(Request::Init { replica: body.integer()?, text: body.text()? })
}

fn positions(from: &mut impl Read, shape: Shape) -> Result<Vec<Geometry>, Error> {
    let Shape { atoms, batch } = shape;
    let expected = batch.saturating_mul(144 + 24 * atoms).saturating_add(4);
    // Sent through shared memory, a number of atoms and names of segments come, and then nothing: looked at before it
    // is waited for.
    let mut begin = [0; 16];
    Body::new(&mut *from, "POSDATA", expected).bytes(&mut begin)?;
    if begin.ends_with(SEGMENT) {
        return Err(Error::SharedMemory);
    }
    let mut from = begin.as_slice().chain(from);
    let mut body = Body::new(&mut from, "POSDATA", expected);
    if batch > 1 {
        body.atoms(atoms)?;
    }
    let mut cells = Vec::new();
    for structure in 0..batch {
        let cell = body.matrix(BOHR)?;
        body.matrix(1.0)?;
        if !cell.iter().flatten().all(|x| x.is_finite()) {
            return Err(Error::NotFinite { what: "the cell".to_owned(), structure });
        }
        cells.push(cell);
    }
    if batch == 1 {
        body.atoms(atoms)?;
    }
    let mut geometries = Vec::new();
    for (structure, cell) in cells.into_iter().enumerate() {
        let positions = body.vectors(atoms, BOHR)?;
        if let Some(atom) = positions.iter().position(|x| !x.iter().all(|x| x.is_finite())) {
            return Err(Error::NotFinite { what: format!("the position of atom {atom}"), structure });
        }
        geometries.push(Geometry { cell, positions });
    }
    Ok(geometries)
}

fn outcomes(from: &mut impl Read, shape: Shape) -> Result<Vec<Outcome>, Error> {
    let Shape { atoms, batch } = shape;
    let expected = batch.saturating_mul(84 + 24 * atoms).saturating_add(4);
    let mut body = Body::new(from, "FORCEREADY", expected);
    let mut outcomes = Vec::new();
    for _ in 0..batch {
        let energy = body.number()? * HARTREE;
        outcomes.push(Outcome { energy, forces: Vec::new(), virial: [[0.0; 3]; 3] });
    }
    body.atoms(atoms)?;
    for outcome in &mut outcomes {
        outcome.forces = body.vectors(atoms, HARTREE / BOHR)?;
    }
    for outcome in &mut outcomes {
        outcome.virial = body.matrix(HARTREE)?;
    }
    for _ in &outcomes {
        body.text()?;
    }
    Ok(outcomes)
}

fn put_header(bytes: &mut Vec<u8>, name: &str) {
    bytes.extend(format!("{name:HEADER$}").into_bytes());
}

/// Rows become columns.
fn put_matrix(bytes: &mut Vec<u8>, matrix: [[f64; 3]; 3], unit: f64) {
    for row in 0..3 {
        for column in matrix {
            bytes.extend((column[row] * unit).to_ne_bytes());
        }
    }
}

fn put_vectors(bytes: &mut Vec<u8>, vectors: &[[f64; 3]], unit: f64) {
    bytes.extend(vectors.iter().flatten().flat_map(|x| (x * unit).to_ne_bytes()));
}

/// The inverse of a cell; of one without volume, what dividing by zero gives.
fn inverse(m: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let minor = |i: usize, j: usize| {
        let (a, b, c, d) = ((i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3);
        m[a][c] * m[b][d] - m[a][d] * m[b][c]
    };
    let volume: f64 = (0..3).map(|j| m[0][j] * minor(0, j)).sum();
    std::array::from_fn(|i| std::array::from_fn(|j| minor(j, i) / volume))
}
