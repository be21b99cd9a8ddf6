import CDICOM

extension Tag {
    /// The attribute of this keyword of the data dictionary ("PatientName"), or of eight hexadecimal digits ("00100010").
    public init?(named name: String) {
        if name.utf8.count == 8, let code = UInt32(name, radix: 16) { self.init(code); return }
        guard name.utf8.allSatisfy({ (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) }) else { return nil }
        var code: cdicom_tag = 0
        guard cdicom_dictionary_tag(name, &code) else { return nil }
        self.init(code)
    }

    /// Keyword of the data dictionary; nil for private and unknown attributes.
    public var keyword: String? {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { letters in
            cdicom_dictionary_keyword(code, letters.baseAddress!, letters.count)
            let word = String(cString: letters.baseAddress!)
            return word.isEmpty ? nil : word
        }
    }

    /// VR of the data dictionary, with the usual choice where it depends on the object; "UN" if unknown.
    public var dictionaryRepresentation: String {
        switch DICOM.dictionaryRepresentation(of: self) {
        case "xs": "US"
        case "ox", "lt": "OW"
        case "up": "UL"
        case let known: known
        }
    }
}
