public import Archive
import DICOM
import Foundation

/// A study that the archive behind this one has more of than is stored here, for a study list.
public struct StudyBeyond: Codable, Sendable {
    public var studyInstanceUID: String
    public var studyDescription, studyDate, patientID, patientName: String
    public var modalities: [String]
    /// Nil where the archive does not count.
    public var series, instances: Int?
}

extension DICOMwebService {
    /// The most studies that one list shows.
    public static let listedBeyond = 200

    /// What the archive behind this one holds and this one does not, or not whole; nil where there is no such archive. `text`: a part of
    /// the patient's name, or of the ID where it has digits. `isCut`: there are more.
    public func studiesBeyond(_ text: String) async throws -> (studies: [StudyBeyond], isCut: Bool)? {
        guard let upstream else { return nil }
        var query: [(name: String, value: String)] = [("includefield", "StudyDescription"), ("includefield", "NumberOfStudyRelatedSeries"), ("includefield", "NumberOfStudyRelatedInstances"), ("includefield", "ModalitiesInStudy")]
        let words = text.split(whereSeparator: { $0 == " " || $0 == "," || $0 == "^" }).map { $0.filter { !"*?\\".contains($0) } }.filter { !$0.isEmpty }
        if !words.isEmpty { query.append((words.joined().contains(where: \.isNumber) ? "PatientID" : "PatientName", "*\(words.joined(separator: "*"))*")) }
        var search = Search(.study)
        search.limit = Self.listedBeyond + 1
        let answers = try await upstream.search(search, query)
        var studies: [StudyBeyond] = []
        for a in answers.prefix(Self.listedBeyond) {
            guard let uid = a.text(.studyInstanceUID), !uid.isEmpty else { continue }
            let study = StudyBeyond(studyInstanceUID: uid, studyDescription: a.text(.studyDescription) ?? "", studyDate: a.text(.studyDate) ?? "", patientID: a.text(.patientID) ?? "", patientName: a.text(.patientName) ?? "",
                                    modalities: a.texts(.modalitiesInStudy), series: a.integer(Tag(0x0020, 0x1206)), instances: a.integer(Tag(0x0020, 0x1208)))
            let here = try await archive.search(Search(.study, study: uid)).found.first?.study.instances ?? 0
            if here == 0 || here < study.instances ?? 0 { studies.append(study) }
        }
        return (studies, answers.count > Self.listedBeyond)
    }

    /// The series of a study as the archive behind this one lists them, without those that are stored here whole. Opening one fetches it.
    public func seriesBeyond(of study: String) async throws -> [SeriesSummary] {
        guard let upstream else { return [] }
        let uid = try Self.uid(study, "study")
        let answers = try await upstream.search(Search(.series, study: uid), [("includefield", "SeriesDescription"), ("includefield", "NumberOfSeriesRelatedInstances")])
        let stored = Dictionary(try await archive.search(Search(.series, study: uid)).found.map { ($0.series!.uid, $0.series!.instances) }, uniquingKeysWith: { a, _ in a })
        return answers.compactMap { a -> SeriesSummary? in
            guard let series = a.text(.seriesInstanceUID), !series.isEmpty else { return nil }
            let count = a.integer(Tag(0x0020, 0x1209)) ?? 0, here = stored[series] ?? 0
            guard here == 0 || here < count else { return nil }
            listed.insert(series, of: uid)
            var summary = SeriesSummary(seriesInstanceUID: series, studyInstanceUID: uid, modality: a.text(.modality) ?? "", description: a.text(.seriesDescription) ?? "", instances: count)
            summary.seriesNumber = a.integer(.seriesNumber)
            return summary
        }.sorted { ($0.seriesNumber ?? .max, $0.seriesInstanceUID) < ($1.seriesNumber ?? .max, $1.seriesInstanceUID) }
    }
}

extension Attributes {
    /// Values as texts; components of a name as they are.
    func texts(_ tag: Tag) -> [String] {
        switch self[tag]?.value {
        case .texts(let v), .names(let v): v.map { $0.trimmingCharacters(in: .whitespaces) }
        case .numbers(let v): v.map { Int(exactly: $0).map(String.init) ?? "\($0)" }
        default: []
        }
    }
    func text(_ tag: Tag) -> String? { texts(tag).first }
    func integer(_ tag: Tag) -> Int? { text(tag).flatMap { Int($0) } }
}
