//! `serve`: forces for i-PI and whoever else speaks its protocol.

pub mod args;

use std::time::{Duration, Instant};

use ff_ipi::{Ended, Endpoint, Error, Geometry, Outcome, ServeError};
use ff_model::Wanted;
use ff_spec::Dtype;
use ff_structure::{FrameReader, Structure};
use serde::Serialize;

use self::args::ServeArgs;
use crate::failure::{Failure, Result};
use crate::models::{AnyModel, Asked, PredictError, Untrained, announce, load};
use crate::screen::Screen;
use crate::{interrupt, workload};

/// Between two connections, where the first was good for nothing.
const PAUSE: Duration = Duration::from_millis(200);

/// What is printed as JSON.
#[derive(Serialize)]
struct Report {
    model: String,
    dtype: Dtype,
    server: String,
    atoms: usize,
    connections: usize,
    evaluations: usize,
    seconds: f64,
    computing_seconds: f64,
    evaluations_per_s: f64,
    ended: &'static str,
}

/// Answers a server until it says that it is over.
pub fn run(args: &ServeArgs, screen: &Screen) -> Result<()> {
    let model = load(&args.model)?;
    let host = AnyModel::new(&model, args.dtype, args.packing)?;
    let mut reader = FrameReader::open(&args.structure).map_err(Failure::input)?;
    let template = match reader.next() {
        Some(frame) => frame.map_err(Failure::input)?.structure,
        None => return Err(Failure::input(format!("{}: expected a frame, found none", args.structure.display()))),
    };
    workload::warn(reader.warnings(), screen);
    Untrained::default().look(model.config(), &args.structure, 1, &template, screen);
    if let Some(threads) = args.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global();
        pool.map_err(|error| Failure::fault(format!("cannot start {threads} threads: {error}")))?;
    }
    let placed = host.on(announce(args.runtime, screen)?.runtime, &model, args.dtype)?;
    args.packing.compare(&model, std::slice::from_ref(&template), screen)?;
    let model = Asked::of(placed)?;
    let endpoint = match (&args.ipi, &args.unix) {
        (Some(endpoint), _) => endpoint.clone(),
        (None, Some(name)) => Endpoint::unix(name),
        (None, None) => return Err(Failure::input("expected --ipi HOST:PORT or --unix NAME")),
    };
    let mut run = Run {
        args,
        model,
        screen,
        endpoint,
        structures: vec![template],
        connections: 0,
        evaluations: 0,
        connected: Duration::ZERO,
        computing: Duration::ZERO,
    };
    let done = run.serve();
    run.end(done)
}

struct Run<'a> {
    args: &'a ServeArgs,
    model: Asked,
    screen: &'a Screen,
    endpoint: Endpoint,
    /// The template, and as many copies of it as a batch has had.
    structures: Vec<Structure>,
    connections: usize,
    evaluations: usize,
    /// How long there was a connection.
    connected: Duration,
    /// How long of it the model was at work.
    computing: Duration,
}

impl Run<'_> {
    /// One connection after the other, until the server says `EXIT` or does not come back; how it ended.
    fn serve(&mut self) -> Result<&'static str> {
        let stop = interrupt::flag();
        let retry = Duration::from_secs_f64(self.args.retry);
        let mut deadline = Instant::now() + Duration::from_secs_f64(self.args.wait);
        // How the last connection ended, where the server did not say that it is over; none of one between two steps.
        let mut last: Option<Option<Error>> = None;
        loop {
            let mut socket = match self.endpoint.connect(deadline.saturating_duration_since(Instant::now()), stop) {
                Ok(socket) => socket,
                Err(absent @ Error::Connect { .. }) => {
                    return match last {
                        // ASE's server leaves when it is done, and says nothing.
                        Some(None) => Ok("closed"),
                        Some(Some(lost)) => Err(Failure::fault(format!("{}: {lost}; {absent}", self.endpoint))),
                        None => Err(Failure::fault(format!("{absent}, within {} s", self.args.wait))),
                    };
                }
                Err(error) => return Err(self.failure(error)),
            };
            self.connections += 1;
            self.screen.say(format!("connected to {}", self.endpoint));
            let (begin, before) = (Instant::now(), self.evaluations);
            let ended =
                ff_ipi::serve(&mut socket, self.structures[0].n_atoms(), |geometries| self.evaluate(geometries));
            self.connected += begin.elapsed();
            drop(socket);
            let how = match ended {
                Ok(Ended::Exit) => return Ok("exit"),
                Ok(Ended::Closed) if retry.is_zero() => return Ok("closed"),
                Ok(Ended::Closed) => None,
                Err(ServeError::Protocol(error)) if error.is_lost() && !retry.is_zero() => Some(error),
                Err(ServeError::Protocol(error)) => return Err(self.failure(error)),
                Err(ServeError::Evaluation(failure)) => return Err(failure),
            };
            // A server that takes connections and asks nothing is not waited for again and again.
            if self.evaluations > before || last.is_none() {
                deadline = Instant::now() + retry;
                let said = how.as_ref().map_or_else(|| "the server closed the connection".to_owned(), Error::to_string);
                self.screen.say(format!("{}: {said}; waiting {} s for it", self.endpoint, self.args.retry));
                last = Some(how);
            } else {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Computes what the server sent.
    fn evaluate(&mut self, geometries: &[Geometry]) -> Result<Vec<Outcome>> {
        let begin = Instant::now();
        while self.structures.len() < geometries.len() {
            self.structures.push(self.structures[0].clone());
        }
        for (structure, Geometry { cell, positions }) in self.structures.iter_mut().zip(geometries) {
            structure.positions.clone_from(positions);
            structure.cell = structure.pbc.contains(&true).then_some(*cell);
        }
        let structures = &self.structures[..geometries.len()];
        let step = self.evaluations + 1;
        let from = |index: usize| format!("{}: evaluation {}", self.endpoint, step + index);
        let predictions = self.model.predict(structures, Wanted::FORCES).map_err(|error| match error {
            PredictError::Structure(error) => Failure::input(format!("{}: {}", from(error.index()), error.reason())),
            PredictError::Device(message) => Failure::fault(message),
        })?;
        let mut outcomes = Vec::with_capacity(predictions.len());
        for (index, (structure, prediction)) in structures.iter().zip(predictions).enumerate() {
            if let Some(atom) = prediction.forces.iter().position(|force| !force.iter().all(|f| f.is_finite())) {
                return Err(Failure::input(format!("{}: the force on atom {atom} is not finite", from(index))));
            }
            let volume = structure.cell.map_or(0.0, volume);
            let virial = prediction.stress.map_or([[0.0; 3]; 3], |stress| stress.map(|row| row.map(|s| -s * volume)));
            outcomes.push(Outcome { energy: prediction.energy, forces: prediction.forces, virial });
        }
        self.evaluations += geometries.len();
        self.computing += begin.elapsed();
        Ok(outcomes)
    }

    fn failure(&self, error: Error) -> Failure {
        match error {
            Error::Stopped => Failure::interrupted(format!("interrupted after {} evaluations", self.evaluations)),
            error if error.is_lost() || matches!(error, Error::Connect { .. }) => {
                Failure::fault(format!("{}: {error}", self.endpoint))
            }
            error => Failure::input(format!("{}: {error}", self.endpoint)),
        }
    }

    /// Says how it went, however it ended.
    fn end(self, done: Result<&'static str>) -> Result<()> {
        let (seconds, computing) = (self.connected.as_secs_f64(), self.computing.as_secs_f64());
        let rate = self.evaluations as f64 / seconds.max(1e-9);
        let ended = match &done {
            Ok(ended) => ended,
            Err(failure) if failure.code == 130 => "interrupted",
            Err(_) => "error",
        };
        let (evaluations, connections) = (self.evaluations, self.connections);
        if self.args.json {
            self.screen.json(&Report {
                model: self.args.model.display().to_string(),
                dtype: self.args.dtype,
                server: self.endpoint.to_string(),
                atoms: self.structures[0].n_atoms(),
                connections,
                evaluations,
                seconds,
                computing_seconds: computing,
                evaluations_per_s: rate,
                ended,
            })?;
        } else if connections > 0 {
            let share = 100.0 * computing / seconds.max(1e-9);
            let of = if connections == 1 { "1 connection".to_owned() } else { format!("{connections} connections") };
            self.screen.line(format!(
                "{evaluations} evaluations of {} atoms by {of} in {seconds:.2} s: {rate:.1}/s, {share:.0} % of it computing",
                self.structures[0].n_atoms()
            ))?;
        }
        done.map(|_| ())
    }
}

/// The volume of a cell in Å³.
fn volume([a, b, c]: [[f64; 3]; 3]) -> f64 {
    let normal = [b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]];
    a.iter().zip(normal).map(|(a, n)| a * n).sum::<f64>().abs()
}
