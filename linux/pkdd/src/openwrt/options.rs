//! The options of each section of `/etc/config/pkd`, as they are written.

use super::uci::UciOption;
use crate::config::{
    Error,
    error::Section,
    sections::{ServiceSection, UserSection},
    values::{Flag, Number, WordList},
};

/// The options of the section `gate`, as they are written.
#[derive(Default)]
pub(super) struct GateOptions {
    pub(super) enabled: Option<Flag>,
    pub(super) mode: Option<String>,
    pub(super) port: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) mark: Option<String>,
    pub(super) rate: Option<Number>,
    pub(super) prefix4: Option<Number>,
    pub(super) prefix6: Option<Number>,
    pub(super) clock: Option<String>,
}

pub(super) fn gate_options(options: &[UciOption]) -> Result<GateOptions, Error> {
    let mut gate = GateOptions::default();
    for option in options {
        let value = one(&Section::GATE, option)?;
        match option.name.as_str() {
            "enabled" => gate.enabled = Some(value.into()),
            "mode" => gate.mode = Some(value.to_owned()),
            "port" => gate.port = Some(value.to_owned()),
            "zone" => gate.zone = Some(value.to_owned()),
            "mark" => gate.mark = Some(value.to_owned()),
            "rate" => gate.rate = Some(value.into()),
            "prefix4" => gate.prefix4 = Some(value.into()),
            "prefix6" => gate.prefix6 = Some(value.into()),
            "clock" => gate.clock = Some(value.to_owned()),
            _ => return Err(unknown(&Section::GATE, option)),
        }
    }
    Ok(gate)
}

pub(super) fn service_section(section: &Section, options: &[UciOption]) -> Result<ServiceSection, Error> {
    let mut service = ServiceSection::default();
    for option in options {
        match option.name.as_str() {
            "protocol" => service.protocol = Some(one(section, option)?.to_owned()),
            "port" => service.port = Some(WordList::of(words(option).iter().map(String::as_str))),
            "seconds" => service.seconds = Some(one(section, option)?.into()),
            "end_connections" => service.end_connections = Some(one(section, option)?.into()),
            "tag" => service.tags = words(option),
            // See `Behind`.
            "dest_ip" | "dest_port" => {}
            _ => return Err(unknown(section, option)),
        }
    }
    Ok(service)
}

pub(super) fn user_section(section: &Section, options: &[UciOption]) -> Result<UserSection, Error> {
    let mut user = UserSection::default();
    for option in options {
        match option.name.as_str() {
            "enabled" => user.enabled = Some(one(section, option)?.into()),
            "tag" => user.tag = Some(one(section, option)?.to_owned()),
            "key" => user.key = Some(one(section, option)?.to_owned()),
            "key_file" => user.key_file = Some(one(section, option)?.into()),
            "format" => user.format = Some(one(section, option)?.to_owned()),
            "require" => user.require = words(option),
            "window" => user.window = Some(one(section, option)?.into()),
            "service" => user.services = words(option),
            "expires" => user.expires = Some(one(section, option)?.to_owned()),
            "replaced_by" => user.replaced_by = Some(one(section, option)?.to_owned()),
            _ => return Err(unknown(section, option)),
        }
    }
    Ok(user)
}

/// The value of an option that is no list.
pub(super) fn one<'a>(section: &Section, option: &'a UciOption) -> Result<&'a str, Error> {
    match &option.values[..] {
        [value] => Ok(value),
        values => {
            let message = format!("{} is given {} times: expected once", option.name, values.len());
            Err(section.at(&option.name, message))
        }
    }
}

/// The items of a list. As everywhere in UCI, an option with words between spaces is one too.
pub(super) fn words(option: &UciOption) -> Vec<String> {
    option.values.iter().flat_map(|value| value.split_whitespace()).map(str::to_owned).collect()
}

fn unknown(section: &Section, option: &UciOption) -> Error {
    section.at(&option.name, format!("unknown option \"{}\"", option.name))
}
