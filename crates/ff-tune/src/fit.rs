//! Whether a configuration that somebody else chose is one that a search could have chosen.

use ff_spec::{DeviceId, Dtype, LaunchConfig, Problem};

use crate::space::Space;

impl Space {
    /// What keeps a configuration from being a point of this space that is feasible on a device and a problem; `None` where it is one.
    ///
    /// A default configuration may lie outside ([`Space::defaults`]), which is for the caller to know.
    pub fn misfit(&self, config: &LaunchConfig, device: &DeviceId, problem: &Problem, dtype: Dtype) -> Option<String> {
        let values = |name: &str| self.parameters().iter().find(|(known, _)| known == name).map(|(_, values)| values);
        let off_grid = config.0.iter().find_map(|(name, value)| match values(name) {
            None => Some(format!("`{name}` is no parameter of its tuning space")),
            Some(values) if !values.contains(value) => {
                let values: Vec<String> = values.iter().map(u32::to_string).collect();
                Some(format!("`{name}` is {value}, expected one of {}", values.join(", ")))
            }
            Some(_) => None,
        });
        off_grid.or_else(|| self.refuses(config, device, problem, dtype))
    }
}

#[cfg(test)]
mod tests {
    use ff_spec::fused_message::Variant;
    use ff_spec::{FusedMessage, RuntimeKind};

    use super::*;
    use crate::Tuned;
    use crate::space::{Spaces, Target};
    use crate::testing::{device, problem};

    #[test]
    fn points_fit_and_nothing_else_does() {
        let spaces = Spaces::built_in("fused_message").expect("sound");
        let variant: Variant = "painn_linear_gaussian_cosine_receiver".parse().expect("an id");
        let space = spaces.get(Target::Cube, FusedMessage::part(&variant), 0).expect("described");
        let (device, problem) = (device(RuntimeKind::Vulkan), problem(64, 128));
        let points = space.enumerate(&device, &problem, Dtype::F64).expect("not empty");
        assert!(points.iter().all(|config| space.misfit(config, &device, &problem, Dtype::F64).is_none()));
        let misfit = |edit: &dyn Fn(&mut LaunchConfig)| {
            let mut config = points[0].clone();
            edit(&mut config);
            space.misfit(&config, &device, &problem, Dtype::F64).expect("no point")
        };
        let set = |name: &str, value| {
            misfit(&|config| {
                config.0.insert(name.to_owned(), value);
            })
        };
        assert_eq!(set("tiles", 1), "`tiles` is no parameter of its tuning space");
        assert!(set("edges_per_tile", 7).starts_with("`edges_per_tile` is 7, expected one of "));
        assert!(misfit(&|config| drop(config.0.pop_first())).ends_with("is not set"));
        // A vector of four does not divide three features, wherever the point lies on the grid.
        let narrow = ff_spec::Problem { features: 3, ..problem.clone() };
        let wide = points.iter().find(|config| config.get("vector_width") == Some(4)).expect("a vector of four");
        let found = space.misfit(wide, &device, &narrow, Dtype::F64).expect("infeasible");
        assert!(found.starts_with("constraint `"), "{found}");
    }
}
