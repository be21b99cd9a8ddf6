import CDICOM
import Foundation

extension DataSet {
    /// The data set as DICOM JSON (PS3.18 Annex F), without file meta information and group lengths.
    ///
    /// Binary values up to `inlineLimit` bytes are given inline as Base64, longer ones and pixel data as a bulk data URI, for
    /// which `bulkDataURI` is asked with the path to the element, keys of tags and item numbers from 1 ("00540016/1/00181072");
    /// without an answer the value is left out.
    /// Throws if a sequence is damaged.
    public func json(inlineLimit: Int = 4096, bulkDataURI: (String) -> String? = { _ in nil }) throws(DICOMError) -> String {
        var text = ""
        try appendJSON(to: &text, path: "", inlineLimit: inlineLimit, bulkDataURI: bulkDataURI)
        return text
    }

    private func appendJSON(to text: inout String, path: String, inlineLimit: Int, bulkDataURI: (String) -> String?) throws(DICOMError) {
        text += "{"
        var isFirst = true
        for tag in tags where tag.group != 2 && tag.element != 0 {
            guard let element = element(tag) else { continue }
            let representation = valueRepresentation(tag) ?? "UN"
            text += isFirst ? "" : ","
            isFirst = false
            text += "\"\(tag.jsonKey)\":{\"vr\":\"\(element.is_sequence ? "SQ" : representation)\""
            switch representation {
            case _ where element.is_sequence:
                let items = try checkedItems(tag)
                if !items.isEmpty {
                    text += ",\"Value\":["
                    for (index, item) in items.enumerated() {
                        text += index == 0 ? "" : ","
                        try item.appendJSON(to: &text, path: "\(path)\(tag.jsonKey)/\(index + 1)/", inlineLimit: inlineLimit, bulkDataURI: bulkDataURI)
                    }
                    text += "]"
                }
            case "OB", "OW", "OD", "OF", "OL", "OV", "UN":
                appendBinary(tag, element, to: &text, path: path, inlineLimit: inlineLimit, bulkDataURI: bulkDataURI)
            case "AT":
                let words = uint16s(tag) ?? []
                appendValues(stride(from: 0, to: words.count - words.count % 2, by: 2).map { "\"\(Tag(words[$0], words[$0 + 1]).jsonKey)\"" }, to: &text)
            case "FL", "FD", "SL", "SS", "UL", "US":
                appendValues(doubles(tag).map(jsonNumber), to: &text)
            case "SV", "UV":
                appendValues(bigIntegers(element), to: &text)
            case "DS", "IS":
                appendValues(zip(strings(tag), doubles(tag)).map { $0.isEmpty ? "null" : $1.isFinite ? jsonNumber($1) : jsonString($0) }, to: &text)
            case _ where tag == .specificCharacterSet:
                // What it says of the file is not true of this form, which is UTF-8 (PS3.18 F.2).
                appendValues(strings(tag).isEmpty ? [] : ["\"ISO_IR 192\""], to: &text)
            case "PN":
                appendValues(strings(tag).map(jsonPersonName), to: &text)
            default:
                appendValues(strings(tag).map { $0.isEmpty ? "null" : jsonString($0) }, to: &text)
            }
            text += "}"
        }
        text += "}"
    }

    private func appendValues(_ values: [String], to text: inout String) {
        if !values.isEmpty { text += ",\"Value\":[\(values.joined(separator: ","))]" }
    }

    private func appendBinary(_ tag: Tag, _ element: cdicom_element, to text: inout String, path: String, inlineLimit: Int, bulkDataURI: (String) -> String?) {
        if let bytes = bytes(tag), bytes.count <= inlineLimit {
            // Inline binary is little endian whatever the object is (PS3.18 F.2.7).
            let words = element.is_big_endian && valueRepresentation(tag) == "OW" ? (uint16s(tag) ?? []).flatMap { [UInt8](littleEndian: $0) } : bytes
            if !words.isEmpty { text += ",\"InlineBinary\":\"\(Data(words).base64EncodedString())\"" }
        } else if let uri = bulkDataURI(path + tag.jsonKey) {
            text += ",\"BulkDataURI\":\(jsonString(uri))"
        }
    }

    /// 64-bit integers do not fit into a double, and not into a JSON number that readers keep exact: strings (PS3.18 F.2.3.1).
    private func bigIntegers(_ element: cdicom_element) -> [String] {
        guard let value = element.value else { return [] }
        let isSigned = element.vr.0 == CChar(UInt8(ascii: "S"))
        return (0..<Int(element.length) / 8).map { index in
            let word = UnsafeRawPointer(value + 8 * index).loadUnaligned(as: UInt64.self)
            let native = element.is_big_endian ? UInt64(bigEndian: word) : UInt64(littleEndian: word)
            return isSigned ? "\"\(Int64(bitPattern: native))\"" : "\"\(native)\""
        }
    }
}

/// Whole numbers without a fraction; what JSON cannot say is null.
package func jsonNumber(_ number: Double) -> String {
    guard number.isFinite else { return "null" }
    if let whole = Int64(exactly: number), abs(number) < 1e15 { return String(whole) }
    return "\(number)"
}

/// The groups of a person name (PS3.5 6.2.1).
package func jsonPersonName(_ name: String) -> String {
    if name.isEmpty { return "null" }
    let groups = name.split(separator: "=", maxSplits: 2, omittingEmptySubsequences: false)
    let members = zip(["Alphabetic", "Ideographic", "Phonetic"], groups).filter { !$1.isEmpty }.map { "\"\($0)\":\(jsonString(String($1)))" }
    return "{\(members.joined(separator: ","))}"
}

package func jsonString(_ text: String) -> String {
    var quoted = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": quoted += "\\\""
        case "\\": quoted += "\\\\"
        case "\n": quoted += "\\n"
        case "\r": quoted += "\\r"
        case "\t": quoted += "\\t"
        case _ where scalar.value < 0x20:
            let digits = String(scalar.value, radix: 16)
            quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: quoted.unicodeScalars.append(scalar)
        }
    }
    return quoted + "\""
}
