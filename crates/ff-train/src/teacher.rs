//! Teachers: what labels structures with energies, forces and stress.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use ff_structure::{Frame, Labels};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What labels structures.
pub trait Teacher {
    /// What it is, as frames name it: files that another teacher labelled are not continued.
    fn name(&self) -> &str;

    /// Atoms that are labelled by one call; a larger structure is a call of its own.
    fn atoms_of_a_call(&self) -> usize;

    /// Labels structures, or says of each why it cannot be.
    ///
    /// # Errors
    /// A teacher that cannot go on. What it had labelled of this call is lost.
    fn label(&mut self, frames: &[Frame]) -> Result<Vec<Result<Labels, String>>, TeacherError>;
}

/// A teacher that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TeacherError {
    /// Not `module:callable`.
    #[error("teacher `{0}`: expected a model's file or `module:callable`, as `ase.calculators.emt:EMT`")]
    Path(String),
    /// Its interpreter does not start.
    #[error("cannot start {python}: {source}")]
    Start {
        /// The interpreter.
        python: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It cannot be made.
    #[error("teacher {teacher}: {reason}")]
    Make {
        /// Which.
        teacher: String,
        /// What Python says.
        reason: String,
    },
    /// Its process ended.
    #[error("teacher {teacher}: expected an answer, found the end of its process ({status})")]
    Ended {
        /// Which.
        teacher: String,
        /// How.
        status: String,
    },
    /// It did not answer in time.
    #[error("teacher {teacher}: expected an answer within {seconds} s, found none; its process was ended")]
    Late {
        /// Which.
        teacher: String,
        /// How long it was waited for.
        seconds: f64,
    },
    /// It said something else.
    #[error("teacher {teacher}: expected labels as a line of JSON, found {found}")]
    Answer {
        /// Which.
        teacher: String,
        /// What.
        found: String,
    },
    /// A device fails.
    #[error("teacher {teacher}: {reason}")]
    Fault {
        /// Which.
        teacher: String,
        /// What it says.
        reason: String,
    },
}

/// What the child runs.
const SCRIPT: &str = include_str!("teacher.py");

/// How long a teacher may take to be made: neural ones load libraries of gigabytes.
const MAKING: Duration = Duration::from_secs(600);

/// An ASE calculator in a Python process of its own. It is made once, and sees one structure at a time.
///
/// A calculator that raises has not labelled that structure, and goes on with the next. What it prints goes to standard error. Columns
/// `initial_charges` and `initial_magmoms` of a frame go to it as ASE has them.
pub struct AseTeacher {
    name: String,
    describes: String,
    child: Child,
    stdin: Option<ChildStdin>,
    answers: Receiver<std::io::Result<String>>,
    timeout: Option<Duration>,
}

#[derive(Serialize)]
struct Request<'a> {
    numbers: &'a [u8],
    positions: &'a [[f64; 3]],
    cell: Option<[[f64; 3]; 3]>,
    pbc: [bool; 3],
    charges: Option<Vec<f64>>,
    magmoms: Option<Vec<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    #[serde(default)]
    ready: Option<String>,
    #[serde(default)]
    fatal: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    energy: Option<f64>,
    #[serde(default)]
    forces: Option<Vec<[f64; 3]>>,
    #[serde(default)]
    stress: Option<[[f64; 3]; 3]>,
}

impl AseTeacher {
    /// Starts an interpreter that has ASE and makes `module:callable` with keyword arguments. Modules are found in the working folder
    /// too. With a timeout a structure that takes longer ends the teacher.
    ///
    /// # Errors
    /// [`TeacherError`]: a path of another form, no such interpreter, and what Python says to making it.
    pub fn start(
        python: &Path,
        path: &str,
        arguments: &Map<String, Value>,
        timeout: Option<Duration>,
    ) -> Result<Self, TeacherError> {
        let is_name = |part: &str| !part.is_empty() && part.split('.').all(|name| !name.is_empty());
        if !path.split_once(':').is_some_and(|(module, callable)| is_name(module) && is_name(callable)) {
            return Err(TeacherError::Path(path.to_owned()));
        }
        // In one order, whichever they were given in.
        let given: BTreeMap<&String, &Value> = arguments.iter().collect();
        let given: Vec<String> = given.iter().map(|(key, value)| format!(" {key}={value}")).collect();
        let name = format!("{path}{}", given.concat());
        let mut child = Command::new(python)
            .args(["-c", SCRIPT, path])
            .arg(Value::Object(arguments.clone()).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| TeacherError::Start { python: python.display().to_string(), source })?;
        let stdin = child.stdin.take();
        let (said, answers) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines() {
                    if said.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let mut teacher = Self { name, describes: String::new(), child, stdin, answers, timeout: Some(MAKING) };
        let answer = teacher.answer()?;
        teacher.timeout = timeout;
        match answer {
            Answer { ready: Some(ready), .. } => teacher.describes = ready,
            Answer { fatal: Some(reason), .. } => {
                return Err(TeacherError::Make { teacher: teacher.name.clone(), reason });
            }
            _ => return Err(teacher.unexpected("neither `ready` nor `fatal`")),
        }
        Ok(teacher)
    }

    /// What it says of itself: its class, and ASE's version.
    pub fn describes(&self) -> &str {
        &self.describes
    }

    fn unexpected(&self, found: impl Into<String>) -> TeacherError {
        TeacherError::Answer { teacher: self.name.clone(), found: found.into() }
    }

    fn answer(&mut self) -> Result<Answer, TeacherError> {
        let line = match self.timeout {
            None => self.answers.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(timeout) => self.answers.recv_timeout(timeout),
        };
        match line {
            Ok(Ok(line)) => serde_json::from_str(&line).map_err(|error| {
                let short: String = line.chars().take(80).collect();
                self.unexpected(format!("`{short}` ({error})"))
            }),
            Ok(Err(error)) => Err(self.unexpected(error.to_string())),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = self.timeout.unwrap_or_default().as_secs_f64();
                // It is waited for when it is dropped.
                let _ = self.child.kill();
                Err(TeacherError::Late { teacher: self.name.clone(), seconds })
            }
        }
    }

    fn ended(&mut self) -> TeacherError {
        // With its input closed a process that only closed its output ends too.
        self.stdin = None;
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        TeacherError::Ended { teacher: self.name.clone(), status }
    }

    fn of(&mut self, frame: &Frame) -> Result<Result<Labels, String>, TeacherError> {
        let structure = &frame.structure;
        let column = |name: &str| -> Option<Vec<f64>> {
            let column = frame.column(name).filter(|column| column.width == 1)?;
            column.values().map(|value| value.parse().ok()).collect()
        };
        let request = Request {
            numbers: &structure.species,
            positions: &structure.positions,
            cell: structure.cell,
            pbc: structure.pbc,
            charges: column("initial_charges"),
            magmoms: column("initial_magmoms"),
        };
        let line = serde_json::to_string(&request).map_err(|error| self.unexpected(error.to_string()))? + "\n";
        let sent = self.stdin.as_mut().map(|stdin| stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()));
        if !matches!(sent, Some(Ok(()))) {
            return Err(self.ended());
        }
        let n_atoms = structure.n_atoms();
        match self.answer()? {
            Answer { error: Some(reason), .. } => Ok(Err(reason)),
            Answer { energy: Some(energy), forces: Some(forces), stress, .. } if forces.len() == n_atoms => {
                Ok(Ok(Labels { energy: Some(energy), energies: None, forces: Some(forces), stress }))
            }
            Answer { forces, .. } => {
                let found = forces.map_or("no forces".to_owned(), |forces| format!("forces on {} atoms", forces.len()));
                Ok(Err(format!("expected an energy and forces on {n_atoms} atoms, found {found}")))
            }
        }
    }
}

impl Teacher for AseTeacher {
    fn name(&self) -> &str {
        &self.name
    }

    fn atoms_of_a_call(&self) -> usize {
        1
    }

    fn label(&mut self, frames: &[Frame]) -> Result<Vec<Result<Labels, String>>, TeacherError> {
        frames.iter().map(|frame| self.of(frame)).collect()
    }
}

impl Drop for AseTeacher {
    fn drop(&mut self) {
        // It ends with its input; one that does not is ended.
        self.stdin = None;
        let patience = std::time::Instant::now();
        while patience.elapsed() < Duration::from_secs(2) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // Gone already, or it cannot be helped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
