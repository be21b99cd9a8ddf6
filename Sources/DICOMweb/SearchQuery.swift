import Archive
import DICOM

/// The parameters of a search (PS3.18 8.3.4), parsed.
struct SearchQuery {
    struct Condition {
        /// From the outermost sequence inwards.
        var path: [Tag]
        var match: Match
    }
    var conditions: [Condition] = []
    /// Attributes asked for beside the usual ones; nil is `all`.
    var fields: [[Tag]]? = []
    var limit: Int?
    var offset = 0
    var warnings: [String] = []

    init(_ query: [(name: String, value: String)]) throws(WebError) {
        var seen: Set<[Tag]> = []
        for (name, value) in query {
            switch name {
            case "limit":
                guard let n = Int(value), n >= 0, value.allSatisfy(\.isNumber) else { throw .invalid(name, "a whole number from 0 is expected") }
                limit = n
            case "offset":
                guard let n = Int(value), n >= 0, value.allSatisfy(\.isNumber) else { throw .invalid(name, "a whole number from 0 is expected") }
                offset = n
            case "fuzzymatching", "emptyvaluematching", "multiplevaluematching":
                guard value == "true" || value == "false" else { throw .invalid(name, "true or false is expected") }
                guard value == "true" else { continue }
                warnings.append(name == "fuzzymatching" ? "The fuzzymatching parameter is not supported. Only literal matching has been performed."
                    : "The \(name) parameter is not supported. Only literal matching has been performed.")
            case "includefield":
                for field in value.split(separator: ",") {
                    if field == "all" { fields = nil; continue }
                    guard let path = Self.path(String(field)) else { throw .invalid(name, "\(Self.shown(field)) is no attribute") }
                    fields?.append(path)
                }
            default:
                guard let path = Self.path(name) else {
                    // Unknown parameters are ignored (8.3.1), but a misspelt attribute must not widen the search.
                    if name.first?.isUppercase == true || name.first?.isNumber == true { throw .invalid(Self.shown(name[...]), "no such attribute is known") }
                    continue
                }
                guard seen.insert(path).inserted else { throw .invalid(name, "an attribute may be given once") }
                guard value.utf8.count <= 4096 else { throw .invalid(name, "the value is too long") }
                if value.isEmpty || value == "*" { fields?.append(path); continue }
                conditions.append(Condition(path: path, match: try Self.match(value, path.last!, name)))
            }
        }
    }

    /// A keyword, a tag, or several with dots.
    static func path(_ name: String) -> [Tag]? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        let tags = parts.compactMap { Tag(named: String($0)) }
        return tags.count == parts.count && !tags.isEmpty && tags.count <= 8 ? tags : nil
    }

    private static func shown(_ text: Substring) -> String { String(text.prefix(64).filter { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == ".") }) }

    static func match(_ value: String, _ tag: Tag, _ name: String) throws(WebError) -> Match {
        switch tag.dictionaryRepresentation {
        case "UI":
            let list = value.split(whereSeparator: { $0 == "," || $0 == "\\" }).map(String.init)
            guard list.allSatisfy({ $0.utf8.count <= 64 && $0.allSatisfy { $0 == "." || ($0.isASCII && $0.isNumber) || $0 == "*" || $0 == "?" } }), !list.isEmpty else {
                throw .invalid(name, "a UID or a list of them is expected")
            }
            return list.count == 1 ? .value(list[0]) : .list(list)
        case "DA", "TM", "DT":
            let allowed: (Character) -> Bool = { $0.isASCII && ($0.isNumber || $0 == "." || $0 == "-" || $0 == "+" || $0 == ":") }
            guard value.allSatisfy(allowed) else { throw .invalid(name, "a date or time, or a range of them, is expected") }
            let plain = value.filter { $0 != ":" }
            guard plain.contains("-") else { return .value(plain) }
            let ends = plain.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard !(ends[0].isEmpty && ends[1].isEmpty), !ends[1].contains("-") else { throw .invalid(name, "a range has the form from-to, from- or -to") }
            return .range(from: ends[0].isEmpty ? nil : ends[0], to: ends[1].isEmpty ? nil : ends[1])
        case "PN" where !value.contains("*") && !value.contains("?"):
            return .value(value)
        case "IS", "DS", "US", "SS", "UL", "SL", "FL", "FD":
            if let dash = value.dropFirst().firstIndex(of: "-"), Double(value[..<dash]) != nil, Double(value[value.index(after: dash)...]) != nil {
                return .range(from: String(value[..<dash]), to: String(value[value.index(after: dash)...]))
            }
            return .value(value)
        default:
            return value.contains("*") || value.contains("?") ? .wildcard(value) : .value(value)
        }
    }
}

extension Match {
    /// For attributes outside the index: whether one of the values matches.
    func holds(_ values: [String], representation: String) -> Bool {
        values.contains { value in
            switch self {
            case .value(let wanted):
                if let a = Double(wanted), let b = Double(value), ["IS", "DS", "US", "SS", "UL", "SL", "FL", "FD"].contains(representation) { return a == b }
                return representation == "PN" ? value.lowercased() == wanted.lowercased() : value == wanted
            case .list(let wanted): return wanted.contains(value)
            case .wildcard(let pattern):
                let fold = representation == "PN"
                return Self.glob(Array((fold ? pattern.lowercased() : pattern).unicodeScalars), Array((fold ? value.lowercased() : value).unicodeScalars))
            case .range(let from, let to):
                if let number = Double(value), !["DA", "TM", "DT"].contains(representation) {
                    return (from.flatMap { Double($0) }.map { number >= $0 } ?? true) && (to.flatMap { Double($0) }.map { number <= $0 } ?? true)
                }
                return (from.map { value >= $0 } ?? true) && (to.map { value.prefix($0.count) <= $0 } ?? true)
            }
        }
    }

    private static func glob(_ pattern: [Unicode.Scalar], _ text: [Unicode.Scalar]) -> Bool {
        var p = 0, t = 0, star = -1, mark = 0
        while t < text.count {
            if p < pattern.count, pattern[p] == "?" || pattern[p] == text[t], pattern[p] != "*" { p += 1; t += 1 }
            else if p < pattern.count, pattern[p] == "*" { star = p; mark = t; p += 1 }
            else if star >= 0 { p = star + 1; mark += 1; t = mark }
            else { return false }
        }
        while p < pattern.count, pattern[p] == "*" { p += 1 }
        return p == pattern.count
    }
}

extension DataSet {
    /// Values along a path through sequences.
    func texts(_ path: [Tag]) -> [String] {
        if path.count > 1 { return items(path[0]).flatMap { $0.texts(Array(path.dropFirst())) } }
        let values = strings(path[0])
        return values.isEmpty ? doubles(path[0]).map { Int(exactly: $0).map(String.init) ?? "\($0)" } : values
    }
}
