//! What may be written in the file, as pages of the documentation.

use crate::config::adapter_section;
use crate::config::options as of_file;
use crate::mapping::Known;
use crate::option::{KindOfSink, Opt, Options, Unless};
use crate::sink::options as of_sinks;

/// A page of the documentation that is made from the program's own lists.
#[derive(Debug)]
pub struct Page {
    /// The name of its file.
    pub file: String,
    /// What it says.
    pub text: String,
}

/// All options: those of the file on one page, and a page for each kind of target.
pub fn pages() -> Vec<Page> {
    let mut options = HEAD.to_owned();
    for Options { table, about, options: of_table } in of_file::TABLES {
        options += &format!("\n## `{table}`\n\n{about}\n\n{}", table_of(of_table));
    }
    let of_file = Page { file: "options.md".to_owned(), text: options };
    [of_file].into_iter().chain(of_sinks::KINDS.iter().map(page_of)).collect()
}

fn page_of(kind: &KindOfSink) -> Page {
    let KindOfSink { kind: name, about, twice, name_is, options } = kind;
    let known = Known::default();
    let section = adapter_section("example", kind, "jobs", &known);
    let section = section.trim_start();
    let table = table_of(options);
    let text = format!(
        "# `{name}`\n\n{about}\n\nA record's `name` is {name_is}. **A delivery that arrives twice:** {twice}\n\n\
         ## A section to begin with\n\nThis is what `rejoin adapters init {name}` writes where no document is \
         known; where there are some, it names their fields. What is a comment may be left out.\n\n\
         ```toml\n{section}```\n\n## Its options\n\nThey stand in `[adapter.NAME.sink]`, beside `kind = \
         \"{name}\"`. [Options](options.md) has those of the adapter itself, and what a secret, a duration and \
         a path are.\n\n{table}"
    );
    Page { file: format!("{name}.md"), text }
}

fn table_of(options: &[Opt]) -> String {
    let mut table = "| option | type | default | meaning |\n|---|---|---|---|\n".to_owned();
    for Opt { name, kind, unless_said, meaning, .. } in options {
        let default = match unless_said {
            Unless::Required => "required".to_owned(),
            Unless::Nothing => String::new(),
            Unless::Default(default) => format!("`{default}`"),
        };
        table += &format!("| `{name}` | {kind} | {default} | {meaning} |\n");
    }
    table
}

const HEAD: &str = "\
# Options of adapters

Everything that may stand in `adapters.toml` beside the options of a target, made from the program's own list of options: a
test compares this page with it. `rejoin adapters init KIND` writes a section with the options that a kind needs, and the others as comments;
`rejoin adapters lint` finds what is wrong in a file, and `rejoin adapters check NAME` what is wrong at a target.

A *secret* is `env:NAME` of a variable or `file:PATH` of a file, and never the secret itself. A *duration* is written
`30s`, `5min`, `24h` or `14d`. Relative paths begin where the file is. A sink is the table `[adapter.NAME.sink]`, or
`sink = { kind = .. }` below `[adapter.NAME]`; each kind has a page of its own.
";

#[cfg(test)]
mod tests {
    use super::*;

    /// The names that a table takes, as whoever reads it says when there is another.
    fn accepted(error: &str) -> Vec<String> {
        let (_, names) = error.split_once("expected").unwrap_or_default();
        names.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// What is wrong with the options of a sink, whatever the mapping.
    fn options_fault(sink: &toml::Table) -> String {
        let text = "[replica]\ndata = 'd'\nspace = 'main'\n[adapter.a]\ncollection = 'jobs'\n\
                    sink = { kind = 'jsonl' }\n[[adapter.a.record]]\nname = 'jobs'\nkey = '{key}'\n\
                    fields = { a = { from = 'a' } }";
        let mut config = crate::config::parse(text).config.expect("a mapping");
        let mut mapping = config.adapters.remove("a").expect("the mapping");
        mapping.sink = sink.clone();
        crate::sink::check(&mapping).err().map(|error| error.to_string()).unwrap_or_default()
    }

    fn named(options: &[Opt]) -> Vec<String> {
        options.iter().map(|option| option.name.to_owned()).collect()
    }

    #[track_caller]
    fn same(mut one: Vec<String>, mut other: Vec<String>, what: &str) {
        one.sort();
        other.sort();
        assert_eq!(one, other, "{what}");
    }

    #[test]
    fn the_list_of_a_sink_is_what_the_sink_takes() {
        for kind in of_sinks::KINDS.iter().filter(|kind| crate::sink::KINDS.contains(&kind.kind)) {
            let wrong = format!("kind = '{}'\nno_such_option = 1", kind.kind);
            let said = options_fault(&wrong.parse().unwrap());
            let own = kind.options.iter().filter(|option| !option.name.contains('.'));
            let own = own.map(|option| option.name.to_owned()).collect();
            // The fields of an appointment are told as options of their own.
            let mut accepted = accepted(&said);
            accepted.retain(|name| kind.kind != "icalendar" || name != "fields");
            same(own, accepted, kind.kind);
        }
    }

    #[test]
    fn the_list_of_a_table_is_what_the_table_takes() {
        for Options { table, options, .. } in of_file::TABLES {
            let said = crate::config::unknown_fault(table);
            let mut accepted = accepted(&said);
            // What has a table of its own is told there.
            accepted.retain(|name| !["sink", "retry", "record", "fields"].contains(&&**name));
            same(named(options), accepted, table);
        }
    }
}
