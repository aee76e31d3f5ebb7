//! The workflow that other repositories call: it is read as YAML, and its scripts are run.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;

use super::{copy_of_the_repository, root, run};

#[derive(Deserialize)]
struct Workflow {
    on: On,
    jobs: BTreeMap<String, Job>,
}

#[derive(Deserialize)]
struct On {
    workflow_call: Call,
}

#[derive(Deserialize)]
struct Call {
    inputs: BTreeMap<String, Input>,
}

#[derive(Deserialize)]
struct Input {
    #[serde(default)]
    required: bool,
    default: Option<String>,
}

#[derive(Deserialize)]
struct Job {
    env: BTreeMap<String, String>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    name: String,
    run: Option<String>,
}

/// The value of `${{ inputs.name }}`.
fn input<'a>(inputs: &'a BTreeMap<String, Input>, expression: &str) -> &'a str {
    let name = expression.trim().strip_prefix("${{ inputs.").and_then(|rest| rest.strip_suffix(" }}"));
    let name = name.unwrap_or_else(|| panic!("`{expression}` is no input alone"));
    let input = inputs.get(name).unwrap_or_else(|| panic!("there is no input `{name}`"));
    input.default.as_deref().unwrap_or_else(|| panic!("`{name}` has no default"))
}

#[test]
fn its_commands_do_what_it_says() {
    let text = fs::read_to_string(root().join(".github/workflows/gate.yml")).expect("the workflow");
    let workflow: Workflow = serde_yaml_ng::from_str(&text).expect("YAML with the fields of a reusable workflow");
    let inputs = &workflow.on.workflow_call.inputs;
    for (name, input) in inputs {
        assert!(input.required != input.default.is_some(), "`{name}` is required or has a default");
    }
    let job = &workflow.jobs["gate"];
    let folder = copy_of_the_repository("workflow");
    let script = |script: &str, runtime: &str| {
        let mut all = String::new();
        for (name, expression) in &job.env {
            let value = match (name.as_str(), input(inputs, expression)) {
                ("TABLES", "") => "autotune/tables",
                ("RUNTIME", _) => runtime,
                // One order is enough to see that the command is right.
                ("ORDER", _) => "0",
                (_, value) => value,
            };
            all += &format!("export {name}='{value}'\n");
        }
        all + script
    };
    let mut ran = Vec::new();
    for step in &job.steps {
        // What a script is given comes through its environment: a value in the text of a script would be run.
        assert!(step.run.as_ref().is_none_or(|run| !run.contains("${{")), "{}", step.name);
        if let Some(command) = step.run.as_ref().filter(|run| run.trim_start().starts_with("forgefield ")) {
            run(&script(command, "host"), 0, &folder, false);
            ran.push(step.name.as_str());
        }
    }
    assert_eq!(ran, ["Kernels against the reference", "Tuning tables"]);
    let report = fs::read_to_string(folder.join("forgefield-junit.xml")).expect("a report");
    assert!(report.contains("<testsuite"), "{report}");
    // And they fail where they should.
    let verify = job.steps.iter().find(|step| step.name == ran[0]).and_then(|step| step.run.as_deref());
    run(&script(verify.expect("a script"), "metal"), 3, &folder, false);
    let tables = job.steps.iter().find(|step| step.name == ran[1]).and_then(|step| step.run.as_deref());
    let table = "sed -i 's/\"rel_error\": .*/\"rel_error\": 0.5,/' autotune/tables/*/*.json\n";
    let broken = script(&format!("{table}{}", tables.expect("a script")), "host");
    run(&broken, 1, &folder, false);
}
