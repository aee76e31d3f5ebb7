//! A client's side of the conversation.

use std::io::{Read, Write};

use crate::error::Error;
use crate::message::{Geometry, Outcome, Reply, Request, Shape, batch};

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The server said `EXIT`.
    Exit,
    /// The server closed the connection between two steps, as ASE's does.
    Closed,
}

/// Why a conversation ended before that.
#[derive(Debug, thiserror::Error)]
pub enum ServeError<E> {
    /// The connection, or what came through it.
    #[error(transparent)]
    Protocol(#[from] Error),
    /// What was asked for could not be computed.
    #[error(transparent)]
    Evaluation(E),
}

/// Answers a server until it ends.
///
/// `evaluate` is given the structures of a message, all of `atoms` atoms, and returns an outcome for each. Structures
/// that a batch is filled up with, copies of its last one, are not computed again.
///
/// # Errors
/// What the server sends and may not, a connection that ends in the midst of a step, and what `evaluate` says.
pub fn serve<E>(
    stream: &mut (impl Read + Write),
    atoms: usize,
    mut evaluate: impl FnMut(&[Geometry]) -> Result<Vec<Outcome>, E>,
) -> Result<Ended, ServeError<E>> {
    let mut shape = Shape { atoms, batch: 1 };
    let mut initialised = false;
    let mut outcomes = None;
    loop {
        let reply = match Request::read(stream, shape)? {
            None if outcomes.is_some() => return Err(Error::NotTaken.into()),
            None => return Ok(Ended::Closed),
            Some(Request::Exit) => return Ok(Ended::Exit),
            Some(Request::Status) if outcomes.is_some() => Reply::HaveData,
            Some(Request::Status) if initialised => Reply::Ready,
            Some(Request::Status) => Reply::NeedInit,
            Some(Request::Init { text, .. }) => {
                shape.batch = batch(&text, atoms)?;
                initialised = true;
                continue;
            }
            Some(Request::Positions(geometries)) => {
                outcomes = Some(filled(&geometries, &mut evaluate).map_err(ServeError::Evaluation)?);
                continue;
            }
            Some(Request::Forces) => Reply::Forces(outcomes.take().ok_or(Error::NoPositions)?),
        };
        reply.write(stream).map_err(Error::from)?;
    }
}

/// Evaluates a batch but for the copies at its end.
fn filled<E>(
    geometries: &[Geometry],
    evaluate: &mut impl FnMut(&[Geometry]) -> Result<Vec<Outcome>, E>,
) -> Result<Vec<Outcome>, E> {
    let copies = geometries.windows(2).rev().take_while(|pair| pair[0] == pair[1]).count();
    let mut outcomes = evaluate(&geometries[..geometries.len() - copies])?;
    if let Some(last) = outcomes.last().cloned() {
        outcomes.resize(geometries.len(), last);
    }
    Ok(outcomes)
}
