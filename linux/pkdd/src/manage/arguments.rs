//! The words after `pkdd init`, `pkdd user` and `pkdd service`.

use std::ffi::OsString;

use lexopt::{Arg, Parser, ValueExt as _};
use pkd_uri::MAX_ADDRESSES;

/// A command that writes the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `init`: a first configuration.
    Init(InitOptions),
    /// `confirm`: what `init` began stays.
    Confirm,
    /// `undo-init`: takes back what was not confirmed; started by `init`.
    Undo,
    /// `grant`: all services are open to an address for a while, without a knock.
    Grant {
        /// The address.
        address: String,
        /// For how long.
        seconds: Option<String>,
    },
    /// `revoke`: all services are closed to an address.
    Revoke {
        /// The address.
        address: String,
    },
    /// `service add`.
    ServiceAdd(NewService),
    /// `user add`.
    UserAdd(NewUser),
    /// `user list`.
    UserList {
        /// As JSON.
        json: bool,
    },
    /// `user rotate`.
    UserRotate {
        /// Whose key is replaced.
        name: String,
        /// The last day of the old key.
        until: Option<String>,
        /// How the new one is shown.
        print: Invite,
    },
    /// `user revoke`.
    UserRevoke {
        /// Who may no longer knock.
        name: String,
    },
}

/// The options of `init`; what is `None` is asked for on a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitOptions {
    /// `NAME=PORT`, the services to close.
    pub services: Vec<String>,
    /// The UDP port to knock at, or `any`.
    pub port: Option<String>,
    /// Where clients reach this host.
    pub addresses: Vec<String>,
    /// Only write the file: neither start nor guard anything.
    pub no_start: bool,
    /// Keep what was started without waiting for `confirm`.
    pub yes: bool,
}

/// The options of `service add`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewService {
    /// Its name.
    pub name: String,
    /// `22` or `53/udp`.
    pub port: String,
    /// How long it is open after a knock.
    pub seconds: Option<String>,
    /// Where it really is.
    pub forward: Vec<String>,
}

/// How the URI of a user is printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invite {
    /// Where the client reaches the gateway.
    pub addresses: Vec<String>,
    /// Also as a QR code.
    pub qr: bool,
}

/// The options of `user add`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewUser {
    /// The name.
    pub name: String,
    /// What a knock opens; empty: all services.
    pub services: Vec<String>,
    /// The last day.
    pub expires: Option<String>,
    /// `2` or `classic`.
    pub format: Option<String>,
    /// The tag, if it is not made from the name.
    pub tag: Option<String>,
    /// How the URI is printed.
    pub print: Invite,
}

/// What options a command may have.
#[derive(Default)]
struct Given {
    words: Vec<String>,
    services: Vec<String>,
    forward: Vec<String>,
    addresses: Vec<String>,
    values: Vec<(&'static str, String)>,
    flags: Vec<&'static str>,
}

impl Given {
    fn value(&self, option: &str) -> Option<String> {
        self.values.iter().find(|(name, _)| *name == option).map(|(_, value)| value.clone())
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    fn invite(&self) -> Invite {
        Invite { addresses: self.addresses.clone(), qr: self.has("qr") }
    }
}

/// A command: its words, the names of its arguments, and its options.
struct Shape {
    command: &'static [&'static str],
    arguments: &'static [&'static str],
    options: &'static [&'static str],
}

const SHAPES: [Shape; 10] = [
    shape(&["init"], &[], &["service", "port", "address", "no-start", "yes"]),
    shape(&["confirm"], &[], &[]),
    shape(&["undo-init"], &[], &[]),
    shape(&["grant"], &["ADDRESS"], &["seconds"]),
    shape(&["revoke"], &["ADDRESS"], &[]),
    shape(&["service", "add"], &["NAME", "PORT"], &["seconds", "forward"]),
    shape(&["user", "add"], &["NAME"], &["service", "expires", "format", "tag", "address", "qr"]),
    shape(&["user", "list"], &[], &["json"]),
    shape(&["user", "rotate"], &["NAME"], &["until", "address", "qr"]),
    shape(&["user", "revoke"], &["NAME"], &[]),
];

const fn shape(
    command: &'static [&'static str],
    arguments: &'static [&'static str],
    options: &'static [&'static str],
) -> Shape {
    Shape { command, arguments, options }
}

const FLAGS: [&str; 4] = ["no-start", "yes", "qr", "json"];

impl Command {
    /// Whether a command begins with this word.
    #[must_use]
    pub fn begins_with(word: &str) -> bool {
        SHAPES.iter().any(|shape| shape.command[0] == word)
    }

    /// Reads the words of the command line from such a word on.
    ///
    /// # Errors
    /// No command has these words; the text says which words it has.
    pub fn parse(words: Vec<OsString>) -> Result<Self, lexopt::Error> {
        let mut words = words.into_iter().peekable();
        let first = words.next().unwrap_or_default().string()?;
        let of_word: Vec<&Shape> = SHAPES.iter().filter(|shape| shape.command[0] == first).collect();
        let second = words.peek().and_then(|word| word.to_str()).unwrap_or_default().to_owned();
        let found = of_word.iter().find(|shape| shape.command.get(1).is_none_or(|word| *word == second));
        let Some(shape) = found else {
            let known: Vec<_> = of_word.iter().filter_map(|shape| shape.command.get(1).copied()).collect();
            return Err(format!("{first} needs one of {}", known.join(", ")).into());
        };
        if shape.command.len() > 1 {
            words.next();
        }
        let name = shape.command.join(" ");
        let given = read(shape, &name, words)?;
        let [argument, second] = [0, 1].map(|place| given.words.get(place).cloned().unwrap_or_default());
        Ok(match name.as_str() {
            "init" => Self::Init(InitOptions {
                services: given.services.clone(),
                port: given.value("port"),
                addresses: given.addresses.clone(),
                no_start: given.has("no-start"),
                yes: given.has("yes"),
            }),
            "confirm" => Self::Confirm,
            "undo-init" => Self::Undo,
            "grant" => Self::Grant { address: argument, seconds: given.value("seconds") },
            "revoke" => Self::Revoke { address: argument },
            "service add" => Self::ServiceAdd(NewService {
                name: argument,
                port: second,
                seconds: given.value("seconds"),
                forward: given.forward.clone(),
            }),
            "user add" => Self::UserAdd(NewUser {
                name: argument,
                services: given.services.clone(),
                expires: given.value("expires"),
                format: given.value("format"),
                tag: given.value("tag"),
                print: given.invite(),
            }),
            "user list" => Self::UserList { json: given.has("json") },
            "user rotate" => {
                Self::UserRotate { name: argument, until: given.value("until"), print: given.invite() }
            }
            _ => Self::UserRevoke { name: argument },
        })
    }
}

fn read(shape: &Shape, name: &str, words: impl Iterator<Item = OsString>) -> Result<Given, lexopt::Error> {
    let mut given = Given::default();
    let mut parser = Parser::from_args(words);
    while let Some(arg) = parser.next()? {
        let option = match arg {
            Arg::Value(word) if given.words.len() < shape.arguments.len() => {
                given.words.push(word.string()?);
                continue;
            }
            Arg::Long(option) => shape.options.iter().copied().find(|known| *known == option),
            _ => None,
        };
        let Some(option) = option else { return Err(arg.unexpected()) };
        if FLAGS.contains(&option) {
            given.flags.push(option);
            continue;
        }
        let value = parser.value()?.string()?;
        match option {
            // Each may be given several times, and have several in one word.
            "service" => given.services.extend(value.split(',').map(str::to_owned)),
            "forward" => given.forward.push(value),
            "address" => given.addresses.extend(value.split(',').map(str::to_owned)),
            _ if given.value(option).is_some() => return Err(format!("--{option} is given twice").into()),
            _ => given.values.push((option, value)),
        }
    }
    if given.addresses.len() > MAX_ADDRESSES {
        return Err(format!(
            "--address: {} addresses, expected at most {MAX_ADDRESSES}",
            given.addresses.len()
        )
        .into());
    }
    if given.addresses.iter().any(String::is_empty) {
        return Err("--address: expected a name or an address".into());
    }
    match shape.arguments.get(given.words.len()) {
        Some(missing) => Err(format!("{name} needs {missing}").into()),
        None => Ok(given),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        Command::parse(line.split(' ').map(OsString::from).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_command_has_its_own_arguments_and_options() {
        let add = NewUser {
            name: "bob".into(),
            services: vec!["ssh".into(), "vpn".into(), "web".into()],
            expires: Some("2027-12-31".into()),
            print: Invite {
                addresses: ["gw.example.net", "192.0.2.1", "::1"].map(str::to_owned).to_vec(),
                qr: true,
            },
            ..NewUser::default()
        };
        let line = "user add bob --service ssh,vpn --expires=2027-12-31 --service web --qr --address gw.example.net \
             --address 192.0.2.1,::1";
        assert_eq!(parse(line), Ok(Command::UserAdd(add)));
        for (line, error) in [
            ("user", "user needs one of add, list, rotate, revoke"),
            ("user ad bob", "user needs one of add, list, rotate, revoke"),
            ("user add", "user add needs NAME"),
            ("user add bob alice", "unexpected argument \"alice\""),
            ("user revoke bob --qr", "invalid option '--qr'"),
            ("user add bob --tag A --tag B", "--tag is given twice"),
            ("user add bob --address a,,b", "--address: expected a name or an address"),
            (
                "user add bob --address 1,2,3,4 --address 5,6,7,8,9",
                "--address: 9 addresses, expected at most 8",
            ),
            ("service add ssh", "service add needs PORT"),
            ("init --port", "missing argument for option '--port'"),
        ] {
            assert_eq!(parse(line), Err(error.to_owned()), "{line}");
        }
    }
}
