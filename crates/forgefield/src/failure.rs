use std::fmt;

/// Everything that ends the program with another code than 0, with the one line that the user sees.
#[derive(Debug)]
pub struct Failure {
    /// 1: what was asked about does not hold; 2: bad usage or input; 3: a runtime or device fault; 130: interrupted.
    pub code: u8,
    /// What was expected, what was found, and where.
    pub message: String,
}

/// A result of the binary.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// The thing asked about does not hold: a failed gate, a regression.
    pub fn unmet(message: impl fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// Bad usage or input.
    pub fn input(message: impl fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// A fault of a runtime, a device or the file system while running.
    pub fn fault(message: impl fmt::Display) -> Self {
        Self { code: 3, message: message.to_string() }
    }

    /// Ended by Ctrl-C, as shells report it.
    pub fn interrupted(message: impl fmt::Display) -> Self {
        Self { code: 130, message: message.to_string() }
    }
}

impl From<ff_spec::LaunchError> for Failure {
    fn from(error: ff_spec::LaunchError) -> Self {
        use ff_spec::LaunchError as E;
        let unknown = matches!(error, E::UnknownVariant(_));
        if unknown || error.is_input() { Self::input(error) } else { Self::fault(error) }
    }
}
