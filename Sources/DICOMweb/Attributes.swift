import DICOM
import Foundation

/// Attributes in memory, for answers that Tomos makes itself and for the XML form of data sets.
struct Attributes: Sendable {
    enum Value: Sendable {
        case none
        case texts([String])
        case names([String])
        case numbers([Double])
        case items([Attributes])
        case inline([UInt8])
        case bulk(String)
    }
    struct Attribute: Sendable {
        var tag: Tag
        var representation: String
        var value: Value
        var creator: String? = nil
    }
    private(set) var list: [Attribute] = []

    init() {}

    mutating func set(_ tag: Tag, _ value: Value, _ representation: String? = nil, creator: String? = nil) {
        let attribute = Attribute(tag: tag, representation: representation ?? tag.dictionaryRepresentation, value: value, creator: creator)
        let i = list.firstIndex { $0.tag >= tag } ?? list.endIndex
        if i < list.endIndex, list[i].tag == tag { list[i] = attribute } else { list.insert(attribute, at: i) }
    }
    /// A text; present without value where it is empty.
    mutating func set(_ tag: Tag, text: String, _ representation: String? = nil) {
        let representation = representation ?? tag.dictionaryRepresentation
        set(tag, text.isEmpty ? .none : representation == "PN" ? .names([text]) : .texts([text]), representation)
    }
    mutating func set(_ tag: Tag, number: Int?) { set(tag, number.map { .numbers([Double($0)]) } ?? .none) }
    func contains(_ tag: Tag) -> Bool { list.contains { $0.tag == tag } }
    subscript(tag: Tag) -> Attribute? { list.first { $0.tag == tag } }

    // MARK: From data sets

    /// The attribute of a data set; long and binary values as bulk data where `bulk` names them.
    static func attribute(_ tag: Tag, of data: DataSet, path: String = "", inlineLimit: Int = 4096, bulk: (String) -> String? = { _ in nil }) -> Attribute? {
        guard let stated = data.valueRepresentation(tag) else { return nil }
        var value = Value.none
        let creator = tag.isPrivate ? data.string(Tag(tag.group, tag.element >> 8)) : nil
        switch stated {
        case "SQ":
            let items = data.items(tag)
            if !items.isEmpty {
                value = .items(items.enumerated().map { i, item in Attributes(item, path: "\(path)\(tag.jsonKey)/\(i + 1)/", inlineLimit: inlineLimit, bulk: bulk) })
            }
        case "OB", "OW", "OD", "OF", "OL", "OV", "UN":
            if let bytes = data.littleEndianBytes(tag), bytes.count <= inlineLimit { value = bytes.isEmpty ? .none : .inline(bytes) }
            else if let uri = bulk(path + tag.jsonKey) { value = .bulk(uri) }
        case "AT":
            let words = data.uint16s(tag) ?? []
            value = .texts(stride(from: 0, to: words.count - words.count % 2, by: 2).map { Tag(words[$0], words[$0 + 1]).jsonKey })
        case "FL", "FD", "SL", "SS", "UL", "US": value = .numbers(data.doubles(tag))
        case "SV", "UV":
            let bytes = data.littleEndianBytes(tag) ?? []
            value = .texts(stride(from: 0, to: bytes.count - bytes.count % 8, by: 8).map { i in
                let word = bytes[i..<(i + 8)].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
                return stated == "SV" ? "\(Int64(bitPattern: word))" : "\(word)"
            })
        case "PN": value = .names(data.strings(tag))
        // What it says of the file is not true of JSON and XML, which are UTF-8 here (PS3.18 F.2).
        case _ where tag == .specificCharacterSet: value = data.strings(tag).isEmpty ? .none : .texts(["ISO_IR 192"])
        default: value = .texts(data.strings(tag))
        }
        switch value {
        case .texts(let v) where v.isEmpty, .names(let v) where v.isEmpty: value = .none
        case .numbers(let v) where v.isEmpty: value = .none
        default: break
        }
        return Attribute(tag: tag, representation: stated, value: value, creator: creator)
    }

    init(_ data: DataSet, path: String = "", inlineLimit: Int = 4096, bulk: (String) -> String? = { _ in nil }) {
        for tag in data.tags where tag.group != 2 && tag.element != 0 {
            if let attribute = Self.attribute(tag, of: data, path: path, inlineLimit: inlineLimit, bulk: bulk) { list.append(attribute) }
        }
    }

    mutating func add(_ attribute: Attribute) { set(attribute.tag, attribute.value, attribute.representation, creator: attribute.creator) }

    // MARK: JSON (PS3.18 Annex F)

    var json: String {
        var text = "{"
        for (i, a) in list.enumerated() {
            text += i == 0 ? "" : ","
            text += "\"\(a.tag.jsonKey)\":{\"vr\":\"\(a.representation)\""
            switch a.value {
            case .none: break
            case .texts(let values):
                let isNumber = a.representation == "DS" || a.representation == "IS"
                text += ",\"Value\":[" + values.map { v in
                    if v.isEmpty { return "null" }
                    if isNumber, let n = Double(v), n.isFinite { return jsonNumber(n) }
                    return jsonString(v)
                }.joined(separator: ",") + "]"
            case .names(let values): text += ",\"Value\":[" + values.map(jsonPersonName).joined(separator: ",") + "]"
            case .numbers(let values): text += ",\"Value\":[" + values.map(jsonNumber).joined(separator: ",") + "]"
            case .items(let items): text += ",\"Value\":[" + items.map(\.json).joined(separator: ",") + "]"
            case .inline(let bytes): text += ",\"InlineBinary\":\"\(Data(bytes).base64EncodedString())\""
            case .bulk(let uri): text += ",\"BulkDataURI\":\(jsonString(uri))"
            }
            text += "}"
        }
        return text + "}"
    }

    // MARK: XML (PS3.19 A.1)

    var xml: String { "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<NativeDicomModel xmlns=\"http://dicom.nema.org/PS3.19/models/NativeDICOM\">\(xmlContent)</NativeDicomModel>" }

    private var xmlContent: String {
        var text = ""
        for a in list {
            text += "<DicomAttribute tag=\"\(a.tag.jsonKey)\" vr=\"\(a.representation)\""
            if let keyword = a.tag.keyword { text += " keyword=\"\(escaped(keyword))\"" }
            if let creator = a.creator { text += " privateCreator=\"\(escaped(creator))\"" }
            text += ">"
            switch a.value {
            case .none: break
            case .texts(let values): for (i, v) in values.enumerated() where !v.isEmpty { text += "<Value number=\"\(i + 1)\">\(escaped(v))</Value>" }
            case .numbers(let values): for (i, v) in values.enumerated() { text += "<Value number=\"\(i + 1)\">\(v.isFinite ? jsonNumber(v) : v.isNaN ? "NaN" : v > 0 ? "INF" : "-INF")</Value>" }
            case .names(let values):
                for (i, v) in values.enumerated() {
                    text += "<PersonName number=\"\(i + 1)\">"
                    for (group, name) in zip(v.split(separator: "=", maxSplits: 2, omittingEmptySubsequences: false), ["Alphabetic", "Ideographic", "Phonetic"]) where !group.isEmpty {
                        text += "<\(name)>"
                        for (component, element) in zip(group.split(separator: "^", omittingEmptySubsequences: false), ["FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix"]) where !component.isEmpty {
                            text += "<\(element)>\(escaped(String(component)))</\(element)>"
                        }
                        text += "</\(name)>"
                    }
                    text += "</PersonName>"
                }
            case .items(let items): for (i, item) in items.enumerated() { text += "<Item number=\"\(i + 1)\">\(item.xmlContent)</Item>" }
            case .inline(let bytes): text += "<InlineBinary>\(Data(bytes).base64EncodedString())</InlineBinary>"
            case .bulk(let uri): text += "<BulkData uri=\"\(escaped(uri))\"/>"
            }
            text += "</DicomAttribute>"
        }
        return text
    }
}

private func escaped(_ text: String) -> String {
    var out = ""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "&": out += "&amp;"
        case "<": out += "&lt;"
        case ">": out += "&gt;"
        case "\"": out += "&quot;"
        case "\t", "\n", "\r": out += "&#\(scalar.value);"
        // XML 1.0 cannot say these.
        case _ where scalar.value < 0x20: break
        default: out.unicodeScalars.append(scalar)
        }
    }
    return out
}
