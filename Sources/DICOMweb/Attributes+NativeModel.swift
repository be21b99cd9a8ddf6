import DICOM
import Foundation

extension Attributes {
    /// From the Native DICOM Model (PS3.19 A.1).
    init(nativeModel bytes: [UInt8]) throws(WebError) {
        guard let root = XMLElement.read(bytes), root.name == "NativeDicomModel" else { throw WebError(400, "metadata", "the metadata is no Native DICOM Model") }
        self.init(root)
    }

    private init(_ element: XMLElement) {
        for child in element.children where child.name == "DicomAttribute" {
            guard let name = child.attributes["tag"], name.utf8.count == 8, let tag = Tag(named: name), let representation = child.attributes["vr"], representation.utf8.count == 2 else { continue }
            func ordered(_ name: String) -> [XMLElement] {
                child.children.filter { $0.name == name }.sorted { (Int($0.attributes["number"] ?? "") ?? 1) < (Int($1.attributes["number"] ?? "") ?? 1) }
            }
            if let bulk = ordered("BulkData").first { set(tag, .bulk(bulk.attributes["uri"] ?? bulk.attributes["uuid"] ?? ""), representation); continue }
            if let inline = ordered("InlineBinary").first {
                set(tag, Data(base64Encoded: inline.text.filter { !$0.isWhitespace }).map { .inline([UInt8]($0)) } ?? .none, representation)
                continue
            }
            if representation == "SQ" { set(tag, .items(ordered("Item").map { Attributes($0) }), representation); continue }
            if representation == "PN" {
                let names = ordered("PersonName").map { person in
                    let groups = ["Alphabetic", "Ideographic", "Phonetic"].map { name in
                        let group = person.children.first { $0.name == name }
                        let parts = ["FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix"].map { part in group?.children.first { $0.name == part }?.text ?? "" }
                        return Self.joined(parts, by: "^")
                    }
                    return Self.joined(groups, by: "=")
                }
                set(tag, names.isEmpty ? .none : .names(names), representation)
                continue
            }
            let values = ordered("Value").map(\.text)
            if values.isEmpty { set(tag, .none, representation); continue }
            let isNumber = ["FL", "FD", "SL", "SS", "UL", "US"].contains(representation)
            set(tag, isNumber ? .numbers(values.map { $0 == "INF" ? .infinity : $0 == "-INF" ? -.infinity : Double($0.trimmingCharacters(in: .whitespacesAndNewlines)) ?? .nan }) : .texts(values), representation)
        }
    }

    private static func joined(_ parts: [String], by separator: String) -> String {
        var parts = parts
        while parts.last == "" { parts.removeLast() }
        return parts.joined(separator: separator)
    }
}

/// An element of an XML document, as far as the Native DICOM Model needs it: no document types, no entities of its own, no namespaces.
final class XMLElement {
    let name: String
    private(set) var attributes: [String: String] = [:]
    private(set) var children: [XMLElement] = []
    private(set) var text = ""
    private static let deepest = 64

    private init(_ name: String) { self.name = name }

    /// The root; nil for what is no such document.
    static func read(_ bytes: [UInt8]) -> XMLElement? {
        var rest = bytes[...]
        if rest.starts(with: [0xEF, 0xBB, 0xBF]) { rest = rest.dropFirst(3) }
        var open: [XMLElement] = [], root: XMLElement?
        while let start = rest.firstIndex(of: UInt8(ascii: "<")) {
            guard let text = plain(rest[rest.startIndex..<start]) else { return nil }
            if let last = open.last { last.text += text } else if !text.allSatisfy(\.isWhitespace) { return nil }
            rest = rest[start...]
            if rest.starts(with: "<?".utf8) { guard let end = after("?>", rest) else { return nil }; rest = rest[end...]; continue }
            if rest.starts(with: "<!--".utf8) { guard let end = after("-->", rest.dropFirst(4)) else { return nil }; rest = rest[end...]; continue }
            if rest.starts(with: "<![CDATA[".utf8) {
                guard let last = open.last, let end = after("]]>", rest), let text = String(validating: rest[(rest.startIndex + 9)..<(end - 3)], as: UTF8.self) else { return nil }
                last.text += text
                rest = rest[end...]
                continue
            }
            if rest.starts(with: "<!".utf8) { return nil }
            guard let end = endOfTag(rest) else { return nil }
            let tag = rest[(rest.startIndex + 1)..<end]
            rest = rest[(end + 1)...]
            if tag.first == UInt8(ascii: "/") {
                guard let last = open.popLast(), words(tag.dropFirst()) == last.name else { return nil }
                continue
            }
            let isEmpty = tag.last == UInt8(ascii: "/")
            guard root == nil || !open.isEmpty, open.count < deepest, let element = element(isEmpty ? tag.dropLast() : tag) else { return nil }
            if let last = open.last { last.children.append(element) } else { root = element }
            if !isEmpty { open.append(element) }
        }
        guard open.isEmpty, rest.allSatisfy({ [9, 10, 13, 32].contains($0) }) else { return nil }
        return root
    }

    private static func words(_ bytes: ArraySlice<UInt8>) -> String? { String(validating: bytes, as: UTF8.self)?.trimmingCharacters(in: .whitespacesAndNewlines) }

    private static func after(_ mark: String, _ bytes: ArraySlice<UInt8>) -> Int? {
        let mark = Array(mark.utf8)
        guard bytes.count >= mark.count else { return nil }
        return (bytes.startIndex...(bytes.endIndex - mark.count)).first { bytes[$0..<($0 + mark.count)].elementsEqual(mark) }.map { $0 + mark.count }
    }

    /// A `>` in quotes ends nothing.
    private static func endOfTag(_ bytes: ArraySlice<UInt8>) -> Int? {
        var quote: UInt8?
        for i in bytes.indices {
            let byte = bytes[i]
            if let open = quote { if byte == open { quote = nil } } else if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") { quote = byte } else if byte == UInt8(ascii: ">") { return i }
        }
        return nil
    }

    private static func element(_ tag: ArraySlice<UInt8>) -> XMLElement? {
        func isSpace(_ byte: UInt8) -> Bool { [9, 10, 13, 32].contains(byte) }
        var rest = tag
        let name = rest.prefix { !isSpace($0) }
        guard !name.isEmpty, let text = String(validating: name, as: UTF8.self) else { return nil }
        let element = XMLElement(text)
        rest = rest.dropFirst(name.count)
        while true {
            rest = rest.drop(while: isSpace)
            guard !rest.isEmpty else { return element }
            guard let equals = rest.firstIndex(of: UInt8(ascii: "=")), let key = words(rest[..<equals]) else { return nil }
            rest = rest[(equals + 1)...].drop(while: isSpace)
            guard let quote = rest.first, quote == UInt8(ascii: "\"") || quote == UInt8(ascii: "'"), let end = rest.dropFirst().firstIndex(of: quote),
                  let value = plain(rest[(rest.startIndex + 1)..<end]) else { return nil }
            element.attributes[key] = value
            rest = rest[(end + 1)...]
        }
    }

    /// With its references resolved.
    private static func plain(_ bytes: ArraySlice<UInt8>) -> String? {
        guard let text = String(validating: bytes, as: UTF8.self) else { return nil }
        guard text.utf8.contains(UInt8(ascii: "&")) else { return text }
        var out = "", rest = text[...]
        while let start = rest.firstIndex(of: "&") {
            out += rest[..<start]
            guard let end = rest[start...].firstIndex(of: ";") else { return nil }
            let name = rest[rest.index(after: start)..<end]
            switch name {
            case "amp": out += "&"
            case "lt": out += "<"
            case "gt": out += ">"
            case "quot": out += "\""
            case "apos": out += "'"
            default:
                guard name.first == "#", let code = name.dropFirst().first == "x" ? UInt32(name.dropFirst(2), radix: 16) : UInt32(name.dropFirst()), let scalar = Unicode.Scalar(code) else { return nil }
                out.unicodeScalars.append(scalar)
            }
            rest = rest[rest.index(after: end)...]
        }
        return out + rest
    }
}
