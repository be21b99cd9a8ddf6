import Archive
import DICOM
import Foundation

extension DICOMwebService {
    /// QIDO-RS (PS3.18 10.6).
    func search(_ request: WebRequest, _ scope: Search) async throws -> WebResponse {
        let accepted = try request.accepted()
        guard let form = accepted.lazy.compactMap({ Self.metadataForm($0) }).first else { throw WebError.notAcceptable }
        try request.requireUnicode()
        let query = try SearchQuery(request.query)

        var search = scope
        var rest: [SearchQuery.Condition] = []
        for condition in query.conditions {
            // The attributes of Request Attributes Sequence are indexed without their path.
            let tag = condition.path.last!
            let isRequest = condition.path.count == 2 && condition.path[0] == Tag(0x0040, 0x0275)
            if Search.isIndexed(tag), condition.path.count == 1 || isRequest { search.conditions.append((tag, condition.match)) } else { rest.append(condition) }
        }
        // Upstream results join ours, so that paging has to wait for both.
        let wanted = min(query.limit ?? options.maximumResults, options.maximumResults)
        let pagesHere = rest.isEmpty && upstream == nil
        if pagesHere { search.offset = query.offset; search.limit = wanted }
        var (found, total) = try await archive.search(search)
        if !rest.isEmpty {
            guard found.count <= 20_000 else { throw WebError(413, "too-broad", "the search names attributes that are not indexed, over too many objects; narrow it by indexed ones") }
            let files = found.map(\.file), conditions = rest
            let hits = await archive.perform { files.map { file in
                guard let data = try? DataSet(path: file) else { return false }
                return conditions.allSatisfy { $0.match.holds(data.texts($0.path), representation: $0.path.last!.dictionaryRepresentation) }
            } }
            found = zip(found, hits).filter(\.1).map(\.0)
            total = found.count
        }
        var warnings = query.warnings
        var answers: [Attributes] = []
        var elsewhere: [Attributes] = []
        if let upstream {
            do {
                let known = Set(found.map { key($0, scope.level) })
                let tag: Tag = scope.level == .study ? .studyInstanceUID : scope.level == .series ? .seriesInstanceUID : .sopInstanceUID
                elsewhere = try await upstream.search(scope, request.query).compactMap { a in
                    guard case .texts(let uid)? = a[tag]?.value, !known.contains(uid[0]) else { return nil }
                    var answer = a
                    // It is retrieved through us.
                    answer.set(Tag(0x0008, 0x1190), text: Self.address(of: a, scope, base: request.base), "UR")
                    return answer
                }
            } catch { warnings.append("The upstream archive did not answer; only objects stored here are listed") }
            total = found.count + elsewhere.count
        }
        if !pagesHere {
            let all = found.count
            found = Array(found.dropFirst(query.offset).prefix(wanted))
            elsewhere = Array(elsewhere.dropFirst(max(0, query.offset - all)).prefix(wanted - found.count))
        }
        let remaining = max(0, total - query.offset) - found.count - elsewhere.count
        let base = request.base, fields = query.fields, level = scope.level
        // Matched attributes are returned as well (10.6.3.3).
        let extra = (fields ?? []) + query.conditions.map(\.path)
        let isScoped = (scope.study != nil, scope.series != nil)
        let page = found
        answers = await archive.perform { page.map { Self.answer($0, level, base: base, isScoped: isScoped, all: fields == nil, extra: extra) } }
        answers += elsewhere

        var headers = warnings.map { (name: "warning", value: "299 \(options.agent): \($0)") }
        if remaining > 0 { headers.append(("warning", "299 \(options.agent): There are \(remaining) additional results that can be requested")) }
        headers.append(("cache-control", "no-cache"))
        guard !answers.isEmpty else { return WebResponse(204, headers: headers) }
        return Self.metadata(answers, form, headers: headers)
    }

    /// Where an answer of the upstream is retrieved.
    private static func address(of answer: Attributes, _ scope: Search, base: String) -> String {
        func uid(_ tag: Tag) -> String? { if case .texts(let v)? = answer[tag]?.value { v.first } else { nil } }
        guard let study = uid(.studyInstanceUID) ?? scope.study else { return "" }
        var text = "\(base)/studies/\(study)"
        guard scope.level != .study else { return text }
        guard let series = uid(.seriesInstanceUID) ?? scope.series else { return "" }
        text += "/series/\(series)"
        guard scope.level == .instance, let instance = uid(.sopInstanceUID) else { return text }
        return text + "/instances/\(instance)"
    }

    private func key(_ found: Found, _ level: SearchLevel) -> String {
        switch level {
        case .study: found.study.uid
        case .series: found.series?.uid ?? ""
        case .instance: found.instance?.uid ?? ""
        }
    }

    enum MetadataForm { case json, xml }
    /// The form an accepted range stands for; nil where it is neither.
    static func metadataForm(_ range: MediaType) -> MetadataForm? {
        if range.isWildcard { return range.covers("application/dicom+json") || range.name == "multipart/related" ? .json : nil }
        switch range.effective {
        case "application/dicom+json", "application/json": return .json
        case "application/dicom+xml": return .xml
        case "multipart/related": return .xml
        default: return nil
        }
    }

    /// One JSON array, or one XML part for each.
    static func metadata(_ answers: [Attributes], _ form: MetadataForm, headers: [(name: String, value: String)] = []) -> WebResponse {
        switch form {
        case .json:
            return WebResponse(200, type: "application/dicom+json", Array(("[" + answers.map(\.json).joined(separator: ",\n") + "]").utf8), headers: headers)
        case .xml:
            let parts = answers.map { answer in
                let bytes = Array(answer.xml.utf8)
                return Part(headers: [("Content-Type", "application/dicom+xml")], length: bytes.count) { try await $0(bytes) }
            }
            return multipart("application/dicom+xml", boundary: "tomos-xml-part", parts, headers: headers)
        }
    }

    /// What is returned for one hit (Tables 10.6.3-3 to 10.6.3-5).
    static func answer(_ found: Found, _ level: SearchLevel, base: String, isScoped: (study: Bool, series: Bool), all: Bool, extra: [[Tag]]) -> Attributes {
        var a = Attributes()
        let study = found.study
        a.set(.studyInstanceUID, text: study.uid)
        if level == .study || !isScoped.study || all {
            a.set(.studyDate, text: study.date); a.set(.studyTime, text: study.time); a.set(.accessionNumber, text: study.accessionNumber)
            a.set(.modalitiesInStudy, study.modalities.isEmpty ? .none : .texts(study.modalities))
            a.set(.referringPhysicianName, text: study.referringPhysician)
            a.set(.studyDescription, text: study.description)
            a.set(.patientName, text: study.patientName); a.set(.patientID, text: study.patientID)
            a.set(.patientBirthDate, text: study.patientBirthDate); a.set(.patientSex, text: study.patientSex)
            a.set(.studyID, text: study.id)
            a.set(Tag(0x0020, 0x1206), number: study.series); a.set(Tag(0x0020, 0x1208), number: study.instances)
        }
        var address = "\(base)/studies/\(study.uid)"
        if let series = found.series {
            address += "/series/\(series.uid)"
            a.set(.seriesInstanceUID, text: series.uid)
            if level == .series || !isScoped.series || all {
                a.set(.modality, text: series.modality); a.set(.seriesDescription, text: series.description)
                a.set(.seriesNumber, number: series.number)
                a.set(Tag(0x0020, 0x1209), number: series.instances)
                if !series.bodyPart.isEmpty { a.set(.bodyPartExamined, text: series.bodyPart) }
                if !series.performedDate.isEmpty { a.set(Tag(0x0040, 0x0244), text: series.performedDate) }
                if !series.performedTime.isEmpty { a.set(Tag(0x0040, 0x0245), text: series.performedTime) }
                if !series.requestedProcedure.isEmpty || !series.scheduledStep.isEmpty {
                    var request = Attributes()
                    request.set(Tag(0x0040, 0x0009), text: series.scheduledStep); request.set(Tag(0x0040, 0x1001), text: series.requestedProcedure)
                    a.set(Tag(0x0040, 0x0275), .items([request]))
                }
            }
        }
        if let instance = found.instance {
            address += "/instances/\(instance.uid)"
            a.set(.sopClassUID, text: instance.sopClass); a.set(.sopInstanceUID, text: instance.uid)
            a.set(.instanceNumber, number: instance.number)
            a.set(Tag(0x0008, 0x3002), text: instance.transferSyntax, "UI")
            if instance.rows > 0 {
                a.set(.rows, number: instance.rows); a.set(.columns, number: instance.columns); a.set(.bitsAllocated, number: instance.bitsAllocated)
                if instance.frames > 1 { a.set(.numberOfFrames, number: instance.frames) }
            }
        }
        a.set(Tag(0x0008, 0x0056), text: "ONLINE")
        a.set(Tag(0x0008, 0x1190), text: address, "UR")
        // What else is asked for comes from the object, or from the first below.
        let missing = extra.filter { !a.contains($0[0]) && belongs($0[0], level) }
        if !missing.isEmpty || all, let data = try? DataSet(path: found.file) {
            let tags = all ? data.tags.filter { $0.group != 2 && $0.element != 0 && $0.group < 0x7FE0 && belongs($0, level) } : missing.map { $0[0] }
            for tag in tags where !a.contains(tag) {
                if let attribute = Attributes.attribute(tag, of: data, inlineLimit: 256) { a.add(attribute) }
            }
        }
        return a
    }

    /// Attributes of a level below are not returned (10.6.3.3): those of patient and study, and of the series, are told by
    /// their place in the standard's modules.
    private static func belongs(_ tag: Tag, _ level: SearchLevel) -> Bool {
        switch level {
        case .instance: true
        case .study: studyTags.contains(tag) || (tag.group == 0x0010)
        case .series: studyTags.contains(tag) || tag.group == 0x0010 || seriesTags.contains(tag)
        }
    }
    private static let studyTags: Set<Tag> = [
        .studyDate, .studyTime, .accessionNumber, .referringPhysicianName, .studyDescription, .studyInstanceUID, .studyID, .timezoneOffsetFromUTC, .specificCharacterSet,
        Tag(0x0008, 0x1032), Tag(0x0008, 0x1048), Tag(0x0008, 0x1060), Tag(0x0008, 0x1080), Tag(0x0032, 0x1060), Tag(0x0032, 0x1064), Tag(0x0008, 0x0051), Tag(0x0008, 0x0096),
    ]
    private static let seriesTags: Set<Tag> = [
        .modality, .seriesInstanceUID, .seriesNumber, .laterality, .seriesDate, .seriesTime, .protocolName, .seriesDescription, .bodyPartExamined, .patientPosition,
        .frameOfReferenceUID, .positionReferenceIndicator, .manufacturer, .manufacturerModelName, .institutionName, .stationName, Tag(0x0008, 0x1050), Tag(0x0008, 0x1070),
        Tag(0x0040, 0x0244), Tag(0x0040, 0x0245), Tag(0x0040, 0x0253), Tag(0x0040, 0x0254), Tag(0x0040, 0x0275), Tag(0x0018, 0x1000), Tag(0x0018, 0x1020), Tag(0x0008, 0x1040),
    ]
}
