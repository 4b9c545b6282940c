//! The rules: a table and facts in, findings out, one sentence each.

#[cfg(test)]
mod tests;

use super::facts::{Dependency, Facts, Member, Mention};
use super::table::{Names, Rule, Table};

pub(super) fn all(table: &Table, facts: &Facts) -> Vec<String> {
    let mut findings = Vec::new();
    for member in &facts.packages {
        findings.extend(package(table, member));
    }
    findings.extend(banned(table, &facts.built));
    findings.extend(only_through(table, facts));
    findings.extend(
        facts
            .mentions
            .iter()
            .filter_map(|mention| misplaced(table, mention)),
    );
    findings
}

fn package(table: &Table, member: &Member) -> Vec<String> {
    if !table.packages.contains_key(&member.name) {
        return vec![format!("{} has no line in the table", member.name)];
    }
    let Some(rule) = table.layered(&member.name) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for dependency in &member.dependencies {
        findings.extend(match dependency.internal {
            true => internal(table, &member.name, rule, dependency),
            false => outside(table, &member.name, rule, dependency),
        });
    }
    let seen = rule.never.intersection(&member.tree);
    findings.extend(seen.map(|never| {
        format!("{0} has {never} in its tree (see: cargo tree -p {0} --all-features -e normal -i {never})", member.name)
    }));
    findings
}

fn internal(table: &Table, member: &str, rule: &Rule, dependency: &Dependency) -> Option<String> {
    let name = &dependency.name;
    if name == member {
        return None;
    }
    if !rule.internal.contains(name) {
        return Some(format!("{member} must not depend on {name}"));
    }
    let lower = table
        .layered(name)
        .is_some_and(|other| other.layer < rule.layer);
    if !lower {
        return Some(format!(
            "{member} (layer {}) and {name}: dependencies point to a lower layer",
            rule.layer
        ));
    }
    let allowed = rule.features.get(name).filter(|_| dependency.normal)?;
    let extra = dependency
        .features
        .iter()
        .find(|feature| !allowed.contains(*feature))?;
    Some(format!(
        "{member} must not switch on the feature {extra} of {name}"
    ))
}

fn outside(table: &Table, member: &str, rule: &Rule, dependency: &Dependency) -> Option<String> {
    if !dependency.normal {
        return None;
    }
    let name = &dependency.name;
    if rule
        .outside
        .as_ref()
        .is_some_and(|names| !names.contains(name))
    {
        return Some(format!(
            "{member} must stay small: {name} is not among what it may name"
        ));
    }
    let owners = table.owners.get(name)?;
    (!owners.contains(member)).then(|| {
        format!(
            "{member} must not name {name}: that is for {}",
            joined(owners)
        )
    })
}

fn banned(table: &Table, built: &Names) -> Vec<String> {
    let seen = table
        .banned
        .iter()
        .filter(|(name, _)| built.contains(*name));
    seen.map(|(name, why)| {
        format!("{name} is banned: {why} (see: cargo tree --workspace --all-features -i {name})")
    })
    .collect()
}

fn only_through(table: &Table, facts: &Facts) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, allowed) in &table.only_through {
        let Some(dependents) = facts.dependents.get(name) else {
            continue;
        };
        let others = dependents.difference(allowed);
        findings.extend(others.map(|other| {
            format!(
                "{other} brings {name}, which is borne only from {}",
                joined(allowed)
            )
        }));
    }
    findings
}

fn misplaced(table: &Table, mention: &Mention) -> Option<String> {
    let mut rules = table.named.iter();
    let rule =
        rules.find(|rule| rule.package == mention.package && rule.outside == mention.outside)?;
    let in_place = |place: &String| match place.ends_with('/') {
        true => mention.path.starts_with(place),
        false => mention.path == *place,
    };
    if rule.only.iter().any(in_place) {
        return None;
    }
    let place = rule.only.first()?;
    Some(format!(
        "{}:{}: {} is named only in {place}",
        mention.path, mention.line, mention.outside
    ))
}

fn joined(names: &Names) -> String {
    names
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}
